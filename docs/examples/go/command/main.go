// Command command gives a device a command over NATS and prints its outcome, one line.
//
//	go run ./command product1/device1 properties.read '{"properties":["sn"]}'
//	go run ./command product1/gw1/child/child1 function.invoke '{"functionId":"beep"}'
//	go run ./command --async product1/device1 properties.write '{"properties":{"a":1}}'
//
//	reply {...}             the device's reply
//	accepted                with --async: the device has it; the reply follows as a line of its own
//	failed CODE message     the bridge or the device says no; after TIME_OUT and CONNECTION_LOST it may have acted
//	offline                 nobody holds a session of the device
package main

import (
	secret "crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"example/envelope"

	"github.com/nats-io/nats.go"
)

// patience is how long "no responders" is taken for a restart of a replica or a server, not for a device that is offline.
const patience = 15 * time.Second

// subjectOf returns the subject: each id is one token, with bytes outside A-Z a-z 0-9 _ - percent-encoded.
func subjectOf(prefix, device, what string) string {
	var subject strings.Builder
	subject.WriteString(prefix)
	for _, id := range strings.Split(device, "/") {
		subject.WriteByte('.')
		for _, b := range []byte(id) {
			if b >= 'A' && b <= 'Z' || b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || b == '_' || b == '-' {
				subject.WriteByte(b)
			} else {
				fmt.Fprintf(&subject, "%%%02X", b)
			}
		}
	}
	return subject.String() + "." + what
}

// request returns the outcome, or nil for a device that is offline.
func request(connection *nats.Conn, subject string, body map[string]any) (*envelope.Envelope, error) {
	payload, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	// The request waits longer than the bridge does, which always answers.
	timeout := 10 * time.Second
	if headers, given := body["headers"].(map[string]any); given {
		if ms, given := headers["timeout"].(float64); given {
			timeout = time.Duration(ms) * time.Millisecond
		}
	}
	pause, end := 250*time.Millisecond, time.Now().Add(patience)
	for {
		answer, err := connection.Request(subject, payload, timeout+2*time.Second)
		switch {
		case errors.Is(err, nats.ErrNoResponders) && time.Now().After(end):
			return nil, nil
		case errors.Is(err, nats.ErrNoResponders):
			// Nothing was delivered, so it is safe to ask again.
			log.Println("no responders, once more")
			time.Sleep(time.Duration(float64(pause) * (0.5 + rand.Float64()/2)))
			pause = min(2*pause, 4*time.Second)
		case err != nil:
			return nil, err
		case len(answer.Data) == 0:
			// Some failures have no body, but all have the headers.
			data, _ := json.Marshal(map[string]any{"success": false, "code": answer.Header.Get("Nats-Service-Error-Code")})
			return &envelope.Envelope{Origin: "bridge", Data: data}, nil
		default:
			outcome := new(envelope.Envelope)
			return outcome, json.Unmarshal(answer.Data, outcome)
		}
	}
}

// show prints an outcome and tells whether it is a good one.
func show(e *envelope.Envelope) bool {
	data := struct {
		Success       *bool
		Code, Message string
	}{}
	_ = json.Unmarshal(e.Data, &data)
	switch {
	case e.Origin == "bridge" && data.Code == "REQUEST_HANDLING":
		fmt.Println("accepted")
	case data.Success == nil || *data.Success:
		fmt.Println("reply", string(e.Data))
	default:
		fmt.Println("failed", data.Code, data.Message)
		return false
	}
	return true
}

func main() {
	isAsync := flag.Bool("async", false, "do not wait for the reply; it comes as a message")
	flag.Parse()
	if flag.NArg() < 2 {
		log.Fatal("usage: command [--async] product/device[/child/child] what [body]")
	}
	device, what, body := flag.Arg(0), flag.Arg(1), map[string]any{}
	if text := flag.Arg(2); text != "" {
		if err := json.Unmarshal([]byte(text), &body); err != nil {
			log.Fatal(err)
		}
	}
	connection, err := nats.Connect(envelope.Setting("NATS_URL", nats.DefaultURL), nats.MaxReconnects(-1))
	if err != nil {
		log.Fatal(err)
	}
	// An id of the caller's own, by which it knows the reply again.
	if _, given := body["messageId"]; !given {
		body["messageId"] = secret.Text()
	}
	var replies *nats.Subscription
	if *isAsync {
		headers, _ := body["headers"].(map[string]any)
		if headers == nil {
			headers = map[string]any{}
		}
		headers["async"] = true
		body["headers"] = headers
		// Replies go to the stream, under the same words; what a stream stores can be subscribed to as well. First this,
		// then the command, else the reply may come between them.
		if replies, err = connection.SubscribeSync(subjectOf("jetlinks.device", device, what+".reply")); err != nil {
			log.Fatal(err)
		}
		if err := connection.Flush(); err != nil {
			log.Fatal(err)
		}
	}
	outcome, err := request(connection, subjectOf("jetlinks.command", device, what), body)
	if err != nil {
		log.Fatal(err)
	}
	if outcome == nil {
		fmt.Println("offline")
		os.Exit(1)
	}
	isGood := show(outcome)
	for *isAsync && isGood {
		message, err := replies.NextMsg(time.Minute)
		if err != nil {
			log.Fatal(err)
		}
		var reply envelope.Envelope
		var data struct{ MessageID string }
		if json.Unmarshal(message.Data, &reply) == nil && json.Unmarshal(reply.Data, &data) == nil &&
			data.MessageID == body["messageId"] {
			isGood = show(&reply)
			break
		}
	}
	if !isGood {
		os.Exit(1)
	}
}
