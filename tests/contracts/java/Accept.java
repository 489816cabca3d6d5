import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.cloudevents.CloudEvent;
import io.cloudevents.http.HttpMessageFactory;
import io.cloudevents.kafka.KafkaMessageFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.function.BiConsumer;
import org.apache.kafka.common.header.internals.RecordHeaders;

/** Reads records with the CloudEvents SDK for Java; as accept.py. */
class Accept {
    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] arguments) throws Exception {
        for (String line : Files.readAllLines(Path.of(arguments[0]))) {
            CloudEvent event = event(JSON.readTree(line));
            ObjectNode seen = JSON.createObjectNode();
            ObjectNode attributes = seen.putObject("attributes");
            for (String name : event.getAttributeNames()) attributes.put(name, event.getAttribute(name).toString());
            for (String name : event.getExtensionNames()) attributes.put(name, event.getExtension(name).toString());
            seen.set("data", JSON.readTree(event.getData().toBytes()));
            System.out.println(seen);
        }
    }

    private static CloudEvent event(JsonNode record) {
        byte[] value = record.get("value").asText().getBytes(StandardCharsets.UTF_8);
        JsonNode headers = record.get("headers");
        if (record.get("queue").asText().equals("kafka")) {
            RecordHeaders own = new RecordHeaders();
            headers.fields().forEachRemaining(
                header -> own.add(header.getKey(), header.getValue().asText().getBytes(StandardCharsets.UTF_8)));
            return KafkaMessageFactory.createReader(own, value).toEvent();
        }
        // On NATS attributes are headers in the form of HTTP.
        return HttpMessageFactory.createReader(
            (BiConsumer<String, String> each) ->
                headers.fields().forEachRemaining(header -> each.accept(header.getKey(), header.getValue().asText())),
            value).toEvent();
    }
}
