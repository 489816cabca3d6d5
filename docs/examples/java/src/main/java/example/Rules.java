package example;

import java.time.Duration;
import java.time.Instant;
import java.util.HashMap;
import java.util.Map;
import java.util.TreeSet;

/**
 * The rules of docs/wire.md ("Presence"). A device is online by what is known, so nothing is undone when a replica comes
 * back.
 */
final class Rules {
    private static final int MISSED_BEATS = 3;
    /** The interval of a bridge that does not tell it in its heartbeats, ms. */
    private static final long INTERVAL = 30_000;

    /** A session; {@code gateway} is null, or for a child the device whose session it is. */
    private record Session(String id, String gateway, String replica) {}

    private static final class Replica {
        /** When it last gave a sign of life, by its own clock. */
        Instant newest = Instant.MIN;
        Duration interval = Duration.ofMillis(INTERVAL);
        /** How long nothing has come from it, while the queue was there and read. */
        Duration silent = Duration.ZERO;
    }

    private final Map<String, Session> sessions = new HashMap<>();
    private final Map<String, Replica> replicas = new HashMap<>();
    private final Envelope.Seen seen = new Envelope.Seen();
    private Instant newest = Instant.MIN;
    private boolean isCurrent;

    /** Takes a record in, in the order of its partition. */
    void note(Envelope envelope) {
        var recorded = Instant.parse(envelope.recordedtime());
        newest = later(newest, recorded);
        var kind = envelope.kind();
        var isPresence = kind.equals("device.online") || kind.equals("device.offline");
        var isBeat = kind.equals("bridge.replica");
        if (!isPresence && !isBeat || seen.isCopy(envelope.id())) {
            return;
        }
        if (envelope.replicaid() != null) {
            var replica = replicas.computeIfAbsent(envelope.replicaid(), id -> new Replica());
            replica.newest = later(replica.newest, recorded);
            replica.silent = Duration.ZERO;
            if (isBeat) {
                replica.interval = Duration.ofMillis(envelope.data().path("interval_ms").asLong(INTERVAL));
            }
        }
        if (isBeat || envelope.origin().equals("device") && envelope.gatewayid() == null) {
            return; // The latter are the device's own words: its session is there all the same.
        }
        var device = envelope.deviceid();
        if (kind.equals("device.online")) {
            sessions.put(device, new Session(envelope.sessionid(), envelope.gatewayid(), envelope.replicaid()));
        } else if (sessions.containsKey(device) && sessions.get(device).id().equals(envelope.sessionid())) {
            sessions.remove(device);
        }
    }

    /** Says that all is read that was stored, and that the queue has been there for so long since the last time. */
    void passTime(Duration elapsed) {
        for (var replica : replicas.values()) {
            // What was silent before the first time shows only in the records.
            replica.silent = isCurrent ? replica.silent.plus(elapsed) : Duration.between(replica.newest, newest);
        }
        isCurrent = true;
    }

    /** The devices that are online. */
    TreeSet<String> online() {
        var online = new TreeSet<String>();
        sessions.forEach((device, session) -> {
            if (lives(session)) {
                online.add(device);
            }
        });
        return online;
    }

    private boolean lives(Session session) {
        if (session.gateway() != null) {
            // A child is there as long as the session in which its gateway said so.
            var gateway = sessions.get(session.gateway());
            return gateway != null && gateway.id().equals(session.id()) && lives(gateway);
        }
        var replica = replicas.get(session.replica());
        return replica.silent.compareTo(replica.interval.multipliedBy(MISSED_BEATS)) <= 0;
    }

    private static Instant later(Instant a, Instant b) {
        return a.isAfter(b) ? a : b;
    }
}
