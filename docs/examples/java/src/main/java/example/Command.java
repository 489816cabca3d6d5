package example;

import com.fasterxml.jackson.databind.node.ObjectNode;
import io.nats.client.Connection;
import io.nats.client.JetStreamStatusException;
import io.nats.client.Nats;
import io.nats.client.Options;
import io.nats.client.Subscription;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.UUID;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ThreadLocalRandom;

/**
 * Gives a device a command over NATS and prints its outcome, one line.
 *
 * <pre>
 *   Command product1/device1 properties.read '{"properties":["sn"]}'
 *   Command product1/gw1/child/child1 function.invoke '{"functionId":"beep"}'
 *   Command product1/device1 properties.write '{"properties":{"a":1}}' --async
 *
 *   reply {...}             the device's reply
 *   accepted                with --async: the device has it; the reply follows as a line of its own
 *   failed CODE message     the bridge or the device says no; after TIME_OUT and CONNECTION_LOST it may have acted
 *   offline                 nobody holds a session of the device
 * </pre>
 */
public final class Command {
    /** How long "no responders" is taken for a restart of a replica or a server, not for a device that is offline. */
    private static final Duration PATIENCE = Duration.ofSeconds(15);

    public static void main(String[] arguments) throws Exception {
        var device = arguments[0];
        var what = arguments[1];
        var body = arguments.length > 2 ? (ObjectNode) Envelope.JSON.readTree(arguments[2]) : Envelope.JSON.createObjectNode();
        var isAsync = arguments.length > 3 && arguments[3].equals("--async");
        // An id of the caller's own, by which it knows the reply again.
        if (!body.has("messageId")) {
            body.put("messageId", UUID.randomUUID().toString());
        }
        var isGood = false;
        var options = Options.builder()
                .server(Envelope.setting("NATS_URL", "nats://127.0.0.1:4222"))
                .maxReconnects(-1)
                // Without it "no responders" looks like a request that was given up.
                .reportNoResponders()
                .build();
        try (var connection = Nats.connect(options)) {
            Subscription replies = null;
            if (isAsync) {
                body.withObject("/headers").put("async", true);
                // Replies go to the stream, under the same words; what a stream stores can be subscribed to as well. First
                // this, then the command, else the reply may come between them.
                replies = connection.subscribe(subject("jetlinks.device", device, what + ".reply"));
                connection.flush(Duration.ofSeconds(5));
            }
            var outcome = request(connection, subject("jetlinks.command", device, what), body);
            isGood = outcome != null && show(outcome);
            if (outcome == null) {
                System.out.println("offline");
            }
            while (isAsync && isGood) {
                var message = replies.nextMessage(Duration.ofMinutes(1));
                if (message == null) {
                    throw new IllegalStateException("no reply came");
                }
                var reply = Envelope.read(message.getData());
                if (reply.data().path("messageId").equals(body.get("messageId"))) {
                    isGood = show(reply);
                    break;
                }
            }
        }
        System.exit(isGood ? 0 : 1);
    }

    /** The subject: each id is one token, with bytes outside A-Z a-z 0-9 _ - percent-encoded. */
    private static String subject(String prefix, String device, String what) {
        var subject = new StringBuilder(prefix);
        for (var id : device.split("/")) {
            subject.append('.');
            for (var b : id.getBytes(StandardCharsets.UTF_8)) {
                var isPlain = b >= 'A' && b <= 'Z' || b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || b == '_' || b == '-';
                subject.append(isPlain ? String.valueOf((char) b) : String.format("%%%02X", b));
            }
        }
        return subject.append('.').append(what).toString();
    }

    /** The outcome, or null for a device that is offline. */
    private static Envelope request(Connection connection, String subject, ObjectNode body) throws Exception {
        var payload = Envelope.JSON.writeValueAsBytes(body);
        // The request waits longer than the bridge does, which always answers.
        var timeout = Duration.ofMillis(body.path("headers").path("timeout").asLong(10_000) + 2_000);
        var pause = 250L;
        var end = Instant.now().plus(PATIENCE);
        while (true) {
            try {
                var answer = connection.requestWithTimeout(subject, payload, timeout).get();
                if (answer.getData().length > 0) {
                    return Envelope.read(answer.getData());
                }
                // Some failures have no body, but all have the headers.
                var data = Envelope.JSON.createObjectNode().put("success", false);
                data.put("code", answer.getHeaders().getFirst("Nats-Service-Error-Code"));
                return new Envelope(null, null, null, "bridge", null, null, null, null, null, data);
            } catch (ExecutionException failure) {
                if (!(failure.getCause() instanceof JetStreamStatusException)) {
                    throw failure;
                }
            }
            // No responders: nothing was delivered, so it is safe to ask again.
            if (Instant.now().isAfter(end)) {
                return null;
            }
            System.err.println("no responders, once more");
            Thread.sleep((long) (pause * ThreadLocalRandom.current().nextDouble(0.5, 1)));
            pause = Math.min(2 * pause, 4_000);
        }
    }

    /** Prints an outcome and tells whether it is a good one. */
    private static boolean show(Envelope envelope) {
        var data = envelope.data();
        var code = data.path("code").asText("-");
        if (envelope.origin().equals("bridge") && code.equals("REQUEST_HANDLING")) {
            System.out.println("accepted");
        } else if (data.path("success").asBoolean(true)) {
            System.out.println("reply " + data);
        } else {
            System.out.println("failed " + code + " " + data.path("message").asText());
            return false;
        }
        return true;
    }
}
