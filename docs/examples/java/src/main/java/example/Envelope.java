package example;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.LinkedHashSet;

/** An envelope as docs/wire.md describes it. Attributes that are not there are null. */
@JsonIgnoreProperties(ignoreUnknown = true)
record Envelope(String id, String type, String recordedtime, String origin, String productid, String deviceid,
        String gatewayid, String sessionid, String replicaid, JsonNode data) {

    static final ObjectMapper JSON = new ObjectMapper();

    static Envelope read(byte[] bytes) {
        try {
            return JSON.readValue(bytes, Envelope.class);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    /** The type without what all types begin with. */
    String kind() {
        return type.startsWith("org.jetlinks.") ? type.substring("org.jetlinks.".length()) : type;
    }

    /** Prints id, device, type and data in one line. */
    void print() {
        System.out.println(id + " " + (deviceid == null ? "-" : deviceid) + " " + kind() + " " + data);
    }

    /** A variable of the environment, or its default. */
    static String setting(String name, String otherwise) {
        return System.getenv().getOrDefault(name, otherwise);
    }

    /**
     * Ids that were taken already. The memory ends with the program: after a restart what was not committed is taken again.
     */
    static final class Seen {
        /**
         * The bridge may store a copy of an envelope up to an hour after the first one (docs/wire.md, "Copies"), so:
         * messages a second x 3600. This is enough for 100 a second, and takes some 50 MB.
         */
        private static final int REMEMBERED = 360_000;

        private final LinkedHashSet<String> ids = new LinkedHashSet<>();

        /** Whether the id was noted before; notes it. */
        boolean isCopy(String id) {
            if (!ids.add(id)) {
                return true;
            }
            if (ids.size() > REMEMBERED) {
                ids.remove(ids.iterator().next());
            }
            return false;
        }
    }
}
