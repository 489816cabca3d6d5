// Command consume_jetstream prints each envelope of the stream once: id, device, type, data.
//
//	NATS_URL=nats://127.0.0.1:4222 go run ./consume_jetstream
//
// Several of these share the messages, as they share a durable consumer, whose position the server keeps. A message is
// acknowledged behind the work, so a crash loses nothing: the server delivers again what was not acknowledged.
package main

import (
	"context"
	"encoding/json"
	"log"
	"os/signal"
	"syscall"
	"time"

	"example/envelope"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// work is the work of the application.
func work(e *envelope.Envelope) { e.Print() }

func main() {
	running, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	connection, err := nats.Connect(envelope.Setting("NATS_URL", nats.DefaultURL),
		// Without an end: a server that is away comes back.
		nats.MaxReconnects(-1), nats.ReconnectWait(time.Second), nats.RetryOnFailedConnect(true))
	if err != nil {
		log.Fatal(err)
	}
	js, err := jetstream.New(connection)
	if err != nil {
		log.Fatal(err)
	}
	var messages jetstream.MessagesContext
	for messages == nil && running.Err() == nil {
		if messages, err = open(running, js); err != nil {
			// No stream yet, or no server. It is asked again.
			log.Println(err)
			time.Sleep(time.Second)
		}
	}
	// Ends the loop below.
	context.AfterFunc(running, func() { messages.Stop() })
	seen := envelope.NewSeen()
	for running.Err() == nil {
		message, err := messages.Next()
		if err != nil {
			if running.Err() == nil {
				// Missed heartbeats of a server that is away; the client asks again by itself.
				log.Println(err)
			}
			continue
		}
		var e envelope.Envelope
		if err := json.Unmarshal(message.Data(), &e); err != nil {
			log.Println("no envelope:", err)
		} else if !seen.IsCopy(e.ID) {
			work(&e)
		}
		// One that gets lost is no harm: the message comes again, and is a copy.
		if err := message.Ack(); err != nil {
			log.Println("ack:", err)
		}
	}
	_ = connection.Drain()
}

func open(running context.Context, js jetstream.JetStream) (jetstream.MessagesContext, error) {
	patience, cancel := context.WithTimeout(running, 5*time.Second)
	defer cancel()
	consumer, err := js.CreateOrUpdateConsumer(patience, "JETLINKS_DEVICE", jetstream.ConsumerConfig{
		Durable: envelope.Setting("DURABLE", "example"),
		// All that devices and bridge say; heartbeats and rejected messages are in the stream as well.
		FilterSubject: "jetlinks.device.>",
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       30 * time.Second,
		MaxAckPending: 2000,
	})
	if err != nil {
		return nil, err
	}
	return consumer.Messages(jetstream.PullMaxMessages(500), jetstream.PullExpiry(5*time.Second),
		jetstream.WithMessagesErrOnMissingHeartbeat(false))
}
