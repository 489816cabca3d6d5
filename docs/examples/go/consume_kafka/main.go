// Command consume_kafka prints each envelope of the topic once: id, device, type, data.
//
//	KAFKA_BROKERS=127.0.0.1:9092 go run ./consume_kafka
//
// Several of these share the partitions. The position is committed behind the work, so a crash loses nothing: what was
// printed and not committed is printed again.
package main

import (
	"context"
	"encoding/json"
	"log"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"example/envelope"

	"github.com/twmb/franz-go/pkg/kgo"
)

// work is the work of the application.
func work(e *envelope.Envelope) { e.Print() }

func main() {
	running, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	client, err := kgo.NewClient(
		// The client looks for the brokers itself while they are away.
		kgo.SeedBrokers(strings.Split(envelope.Setting("KAFKA_BROKERS", "127.0.0.1:9092"), ",")...),
		kgo.ConsumerGroup(envelope.Setting("GROUP", "example")),
		kgo.ConsumeTopics(envelope.Setting("KAFKA_TOPIC", "jetlinks.device")),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		// Committed below, once the work is done; no partition goes to another consumer in between.
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
	)
	if err != nil {
		log.Fatal(err)
	}
	seen := envelope.NewSeen()
	for running.Err() == nil {
		fetches := client.PollRecords(running, 500)
		fetches.EachError(func(topic string, partition int32, err error) {
			if running.Err() == nil {
				log.Println(topic, partition, err)
			}
		})
		fetches.EachRecord(func(record *kgo.Record) {
			var e envelope.Envelope
			if err := json.Unmarshal(record.Value, &e); err != nil {
				log.Println("no envelope:", err)
			} else if !seen.IsCopy(e.ID) {
				work(&e)
			}
		})
		commit(client)
		client.AllowRebalance()
	}
	client.Close()
}

// commit says how far the work is done. While the broker is away the next one makes up for this one.
func commit(client *kgo.Client) {
	patience, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := client.CommitUncommittedOffsets(patience); err != nil {
		log.Println("commit:", err)
	}
}
