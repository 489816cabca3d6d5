package example;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Prints each envelope of the topic once: id, device, type, data.
 *
 * <p>Several of these share the partitions. The position is committed behind the work, so a crash loses nothing: what was
 * printed and not committed is printed again.
 */
public final class ConsumeKafka {
    /** The work of the application. */
    private static void work(Envelope envelope) {
        envelope.print();
    }

    public static void main(String[] arguments) {
        Map<String, Object> settings = Map.of(
                "bootstrap.servers", Envelope.setting("KAFKA_BROKERS", "127.0.0.1:9092"),
                "group.id", Envelope.setting("GROUP", "example"),
                "auto.offset.reset", "earliest",
                // Committed below, once the work is done.
                "enable.auto.commit", false,
                // The client looks for the broker itself while it is away; a call waits no longer than this.
                "default.api.timeout.ms", 10_000);
        var ended = new AtomicBoolean();
        var main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            ended.set(true);
            try {
                main.join();
            } catch (InterruptedException ignored) {
                // The process ends in any case.
            }
        }));
        var seen = new Envelope.Seen();
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(Envelope.setting("KAFKA_TOPIC", "jetlinks.device")));
            while (!ended.get()) {
                for (ConsumerRecord<String, byte[]> record : consumer.poll(Duration.ofMillis(500))) {
                    var envelope = Envelope.read(record.value());
                    if (!seen.isCopy(envelope.id())) {
                        work(envelope);
                    }
                }
                commit(consumer);
            }
        }
    }

    /** Says how far the work is done. While the broker is away the next commit makes up for this one. */
    private static void commit(KafkaConsumer<?, ?> consumer) {
        try {
            consumer.commitSync(Duration.ofSeconds(5));
        } catch (KafkaException error) {
            System.err.println("commit: " + error.getMessage());
        }
    }
}
