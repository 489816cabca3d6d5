// Reads records with the CloudEvents SDK for Go; as accept.py.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"

	"github.com/cloudevents/sdk-go/protocol/kafka_sarama/v2"
	"github.com/cloudevents/sdk-go/protocol/nats_jetstream/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
)

type record struct {
	Queue   string            `json:"queue"`
	Headers map[string]string `json:"headers"`
	Value   string            `json:"value"`
}

func (r record) message() binding.Message {
	if r.Queue == "kafka" {
		headers := map[string][]byte{}
		for name, value := range r.Headers {
			headers[name] = []byte(value)
		}
		return kafka_sarama.NewMessage([]byte(r.Value), r.Headers["content-type"], headers)
	}
	own := &nats.Msg{Data: []byte(r.Value), Header: nats.Header{}}
	for name, value := range r.Headers {
		own.Header[name] = []string{value}
	}
	return nats_jetstream.NewMessage(own)
}

// attributes are those of the event, by their names.
func attributes(e *event.Event) map[string]any {
	whole := map[string]any{}
	bytes, err := json.Marshal(e)
	if err == nil {
		err = json.Unmarshal(bytes, &whole)
	}
	if err != nil {
		log.Fatal(err)
	}
	delete(whole, "data")
	return whole
}

func main() {
	file, err := os.Open(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var own record
		if err := json.Unmarshal(lines.Bytes(), &own); err != nil {
			log.Fatal(err)
		}
		e, err := binding.ToEvent(context.Background(), own.message())
		if err != nil {
			log.Fatalf("%v: %s", err, lines.Text())
		}
		if err := e.Validate(); err != nil {
			log.Fatalf("%v: %s", err, lines.Text())
		}
		seen, err := json.Marshal(map[string]any{"attributes": attributes(e), "data": json.RawMessage(e.Data())})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(seen))
	}
	if err := lines.Err(); err != nil {
		log.Fatal(err)
	}
}
