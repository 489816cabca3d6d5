package example;

import io.nats.client.JetStreamApiException;
import io.nats.client.MessageConsumer;
import io.nats.client.Nats;
import io.nats.client.Options;
import io.nats.client.api.AckPolicy;
import io.nats.client.api.ConsumerConfiguration;
import java.io.IOException;
import java.time.Duration;
import java.util.concurrent.CountDownLatch;

/**
 * Prints each envelope of the stream once: id, device, type, data.
 *
 * <p>Several of these share the messages, as they share a durable consumer, whose position the server keeps. A message is
 * acknowledged behind the work, so a crash loses nothing: the server delivers again what was not acknowledged.
 */
public final class ConsumeJetStream {
    /** The work of the application. */
    private static void work(Envelope envelope) {
        envelope.print();
    }

    public static void main(String[] arguments) throws Exception {
        var options = Options.builder()
                .server(Envelope.setting("NATS_URL", "nats://127.0.0.1:4222"))
                // Without an end: a server that is away comes back.
                .maxReconnects(-1)
                .reconnectWait(Duration.ofSeconds(1))
                .build();
        var configuration = ConsumerConfiguration.builder()
                .durable(Envelope.setting("DURABLE", "example"))
                // All that devices and bridge say; heartbeats and rejected messages are in the stream as well.
                .filterSubject("jetlinks.device.>")
                .ackPolicy(AckPolicy.Explicit)
                .ackWait(Duration.ofSeconds(30))
                .maxAckPending(2000)
                .build();
        var connection = Nats.connectReconnectOnConnect(options);
        var ended = new CountDownLatch(1);
        var closed = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            ended.countDown();
            try {
                closed.await();
            } catch (InterruptedException ignored) {
                // The process ends in any case.
            }
        }));
        var seen = new Envelope.Seen();
        MessageConsumer messages = null;
        while (messages == null) {
            try {
                var consumer = connection.getStreamContext("JETLINKS_DEVICE").createOrUpdateConsumer(configuration);
                // Called by one thread, one message after the other.
                messages = consumer.consume(message -> {
                    var envelope = Envelope.read(message.getData());
                    if (!seen.isCopy(envelope.id())) {
                        work(envelope);
                    }
                    // One that gets lost is no harm: the message comes again, and is a copy.
                    message.ack();
                });
            } catch (IOException | JetStreamApiException error) {
                // No stream yet, or no server. It is asked again.
                System.err.println(error.getMessage());
                Thread.sleep(1000);
            }
        }
        ended.await();
        messages.close();
        connection.drain(Duration.ofSeconds(5)).get();
        closed.countDown();
    }
}
