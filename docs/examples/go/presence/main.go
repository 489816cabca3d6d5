// Command presence prints who comes and goes: `device1 online`, `device1 offline`.
//
//	KAFKA_BROKERS=127.0.0.1:9092 go run ./presence
//
// It reads the topic from its beginning and prints nothing until it has read all that is there. It needs every partition,
// as the heartbeats of a replica are in another one than the presence of its devices, so it is in no group.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"maps"
	"slices"
	"strings"
	"time"

	"example/envelope"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// period is how often the broker is asked how much there is to read.
const period = 500 * time.Millisecond

func main() {
	topic := envelope.Setting("KAFKA_TOPIC", "jetlinks.device")
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(envelope.Setting("KAFKA_BROKERS", "127.0.0.1:9092"), ",")...),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)
	if err != nil {
		log.Fatal(err)
	}
	admin, rules := kadm.NewClient(client), newRules()
	shown, read := map[string]bool{}, map[int32]int64{}
	// Where each partition must have been read to, and when the broker said so.
	var ends map[int32]int64
	asked, passed := time.Time{}, time.Now()
	for {
		poll(client, rules, read)
		if ends == nil && time.Since(asked) >= period {
			asked = time.Now()
			if ends, err = storedUntil(admin, topic); err != nil {
				log.Println(err)
			}
		}
		if ends == nil || !isRead(read, ends) {
			continue
		}
		// A broker that was away, or a program that stood still, makes no replica silent.
		rules.passTime(min(asked.Sub(passed), 2*period))
		ends, passed = nil, asked
		online := rules.online()
		for _, device := range slices.Sorted(maps.Keys(shown)) {
			if !online[device] {
				fmt.Println(device, "offline")
			}
		}
		for _, device := range slices.Sorted(maps.Keys(online)) {
			if !shown[device] {
				fmt.Println(device, "online")
			}
		}
		shown = online
	}
}

func poll(client *kgo.Client, rules *rules, read map[int32]int64) {
	patience, cancel := context.WithTimeout(context.Background(), period/2)
	defer cancel()
	client.PollRecords(patience, 500).EachRecord(func(record *kgo.Record) {
		read[record.Partition] = record.Offset + 1
		var e envelope.Envelope
		if err := json.Unmarshal(record.Value, &e); err != nil {
			log.Println("no envelope:", err)
			return
		}
		rules.note(&e)
	})
}

// storedUntil returns the end of each partition that has records; none while the broker does not answer.
func storedUntil(admin *kadm.Client, topic string) (map[int32]int64, error) {
	patience, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	starts, err := admin.ListStartOffsets(patience, topic)
	if err != nil {
		return nil, err
	}
	ends, err := admin.ListEndOffsets(patience, topic)
	if err != nil {
		return nil, err
	}
	if err := ends.Error(); err != nil {
		return nil, err
	}
	until := map[int32]int64{}
	ends.Each(func(end kadm.ListedOffset) {
		if start, known := starts.Lookup(topic, end.Partition); known && start.Offset < end.Offset {
			until[end.Partition] = end.Offset
		}
	})
	return until, nil
}

func isRead(read, ends map[int32]int64) bool {
	for partition, end := range ends {
		if read[partition] < end {
			return false
		}
	}
	return true
}
