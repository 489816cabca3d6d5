package example;

import java.time.Duration;
import java.time.Instant;
import java.util.HashMap;
import java.util.Map;
import java.util.TreeSet;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Prints who comes and goes: {@code device1 online}, {@code device1 offline}.
 *
 * <p>It reads the topic from its beginning and prints nothing until it has read all that is there. It needs every
 * partition, as the heartbeats of a replica are in another one than the presence of its devices, so it is in no group.
 */
public final class Presence {
    /** How often the broker is asked how much there is to read. */
    private static final Duration PERIOD = Duration.ofMillis(500);

    public static void main(String[] arguments) {
        Map<String, Object> settings = Map.of(
                "bootstrap.servers", Envelope.setting("KAFKA_BROKERS", "127.0.0.1:9092"),
                "enable.auto.commit", false,
                "default.api.timeout.ms", 30_000);
        var bytes = new ByteArrayDeserializer();
        try (var consumer = new KafkaConsumer<>(settings, bytes, bytes)) {
            var topic = Envelope.setting("KAFKA_TOPIC", "jetlinks.device");
            var partitions = consumer.partitionsFor(topic).stream()
                    .map(partition -> new TopicPartition(topic, partition.partition()))
                    .toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            watch(consumer);
        }
    }

    private static void watch(KafkaConsumer<byte[], byte[]> consumer) {
        var rules = new Rules();
        var shown = new TreeSet<String>();
        // Where each partition must have been read to, and when the broker said so.
        Map<TopicPartition, Long> ends = null;
        Instant asked = Instant.EPOCH;
        Instant passed = Instant.now();
        while (true) {
            consumer.poll(PERIOD.dividedBy(2)).forEach(record -> rules.note(Envelope.read(record.value())));
            if (ends == null && !asked.plus(PERIOD).isAfter(Instant.now())) {
                asked = Instant.now();
                ends = storedUntil(consumer);
            }
            if (ends == null || !ends.entrySet().stream().allMatch(end -> isRead(consumer, end))) {
                continue;
            }
            // A broker that was away, or a program that stood still, makes no replica silent.
            var elapsed = Duration.between(passed, asked);
            rules.passTime(elapsed.compareTo(PERIOD.multipliedBy(2)) < 0 ? elapsed : PERIOD.multipliedBy(2));
            ends = null;
            passed = asked;
            var online = rules.online();
            shown.stream().filter(device -> !online.contains(device)).forEach(device -> System.out.println(device + " offline"));
            online.stream().filter(device -> !shown.contains(device)).forEach(device -> System.out.println(device + " online"));
            shown.clear();
            shown.addAll(online);
        }
    }

    /** The end of each partition that has records; null while the broker does not answer. */
    private static Map<TopicPartition, Long> storedUntil(KafkaConsumer<?, ?> consumer) {
        try {
            var starts = consumer.beginningOffsets(consumer.assignment(), Duration.ofSeconds(2));
            var ends = new HashMap<>(consumer.endOffsets(consumer.assignment(), Duration.ofSeconds(2)));
            ends.entrySet().removeIf(end -> end.getValue() <= starts.get(end.getKey()));
            return ends;
        } catch (KafkaException error) {
            System.err.println(error.getMessage());
            return null;
        }
    }

    private static boolean isRead(KafkaConsumer<?, ?> consumer, Map.Entry<TopicPartition, Long> end) {
        try {
            return consumer.position(end.getKey(), Duration.ofSeconds(2)) >= end.getValue();
        } catch (KafkaException error) {
            return false;
        }
    }
}
