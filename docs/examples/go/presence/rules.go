package main

import (
	"encoding/json"
	"time"

	"example/envelope"
)

const (
	missedBeats = 3
	// defaultInterval is that of a bridge that does not tell it in its heartbeats.
	defaultInterval = 30 * time.Second
)

type session struct {
	id string
	// gateway is empty, or for a child the device whose session it is.
	gateway string
	replica string
}

type replica struct {
	// newest is when it last gave a sign of life, by its own clock.
	newest   time.Time
	interval time.Duration
	// silent is how long nothing has come from it, while the queue was there and read.
	silent time.Duration
}

// rules are those of docs/wire.md ("Presence"). A device is online by what is known, so nothing is undone when a replica
// comes back.
type rules struct {
	sessions  map[string]session
	replicas  map[string]*replica
	newest    time.Time
	isCurrent bool
	seen      *envelope.Seen
}

func newRules() *rules {
	return &rules{sessions: map[string]session{}, replicas: map[string]*replica{}, seen: envelope.NewSeen()}
}

// note takes a record in, in the order of its partition.
func (r *rules) note(e *envelope.Envelope) {
	r.newest = later(r.newest, e.RecordedTime)
	kind := e.Kind()
	isPresence := kind == "device.online" || kind == "device.offline"
	if !isPresence && kind != "bridge.replica" || r.seen.IsCopy(e.ID) {
		return
	}
	if e.ReplicaID != "" {
		beating := r.replicas[e.ReplicaID]
		if beating == nil {
			beating = &replica{interval: defaultInterval}
			r.replicas[e.ReplicaID] = beating
		}
		beating.newest, beating.silent = later(beating.newest, e.RecordedTime), 0
		if kind == "bridge.replica" {
			beat := struct {
				IntervalMs int64 `json:"interval_ms"`
			}{defaultInterval.Milliseconds()}
			_ = json.Unmarshal(e.Data, &beat)
			beating.interval = time.Duration(beat.IntervalMs) * time.Millisecond
		}
	}
	switch {
	case !isPresence, e.Origin == "device" && e.GatewayID == "":
		// A heartbeat; or the device's own words: its session is there all the same.
	case kind == "device.online":
		r.sessions[e.DeviceID] = session{e.SessionID, e.GatewayID, e.ReplicaID}
	case r.sessions[e.DeviceID].id == e.SessionID:
		delete(r.sessions, e.DeviceID)
	}
}

// passTime says that all is read that was stored, and that the queue has been there for so long since the last time.
func (r *rules) passTime(elapsed time.Duration) {
	for _, beating := range r.replicas {
		if r.isCurrent {
			beating.silent += elapsed
		} else {
			// What was silent before the first time shows only in the records.
			beating.silent = r.newest.Sub(beating.newest)
		}
	}
	r.isCurrent = true
}

// online returns the devices that are online.
func (r *rules) online() map[string]bool {
	online := map[string]bool{}
	for device, session := range r.sessions {
		if r.lives(session) {
			online[device] = true
		}
	}
	return online
}

func (r *rules) lives(s session) bool {
	if s.gateway != "" {
		// A child is there as long as the session in which its gateway said so.
		gateway, known := r.sessions[s.gateway]
		return known && gateway.id == s.id && r.lives(gateway)
	}
	beating := r.replicas[s.replica]
	return beating.silent <= missedBeats*beating.interval
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
