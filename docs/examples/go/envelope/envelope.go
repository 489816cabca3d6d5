// Package envelope reads the envelopes of the bridge and drops copies of them.
package envelope

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"
)

// Envelope is a CloudEvent as docs/wire.md describes it. Attributes that are not there are empty.
type Envelope struct {
	ID           string          `json:"id"`
	Type         string          `json:"type"`
	RecordedTime time.Time       `json:"recordedtime"`
	Origin       string          `json:"origin"`
	ProductID    string          `json:"productid"`
	DeviceID     string          `json:"deviceid"`
	GatewayID    string          `json:"gatewayid"`
	SessionID    string          `json:"sessionid"`
	ReplicaID    string          `json:"replicaid"`
	Data         json.RawMessage `json:"data"`
}

// Kind is the type without what all types begin with.
func (e *Envelope) Kind() string { return strings.TrimPrefix(e.Type, "org.jetlinks.") }

// Print writes id, device, type and data in one line.
func (e *Envelope) Print() {
	device := e.DeviceID
	if device == "" {
		device = "-"
	}
	fmt.Println(e.ID, device, e.Kind(), string(e.Data))
}

// Remembered is how many ids Seen keeps. The bridge may store a copy of an envelope up to an hour after the first one
// (docs/wire.md, "Copies"), so: messages a second x 3600. This is enough for 100 a second, and takes some 40 MB.
const Remembered = 360_000

// Seen remembers the newest ids. The memory ends with the program: after a restart what was not committed is taken again.
type Seen struct {
	ids map[string]struct{}
	// In the order they came; a ring once it is full.
	order []string
	next  int
}

// NewSeen returns an empty memory.
func NewSeen() *Seen { return &Seen{ids: map[string]struct{}{}} }

// IsCopy tells whether the id was noted before, and notes it.
func (s *Seen) IsCopy(id string) bool {
	if _, known := s.ids[id]; known {
		return true
	}
	s.ids[id] = struct{}{}
	if len(s.order) < Remembered {
		s.order = append(s.order, id)
		return false
	}
	delete(s.ids, s.order[s.next])
	s.order[s.next] = id
	s.next = (s.next + 1) % Remembered
	return false
}

// Setting is a variable of the environment, or its default.
func Setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
