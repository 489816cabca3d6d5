"""Reads records with the CloudEvents SDK for Python: accept.py RECORDS.

Each line of RECORDS is {"queue", "key", "headers", "value"}. Prints the attributes and the data of each as the SDK sees
them, one JSON object a line.
"""

import json
import sys
from datetime import datetime

from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event


def event_of(record: dict):
    value = record["value"].encode()
    if record["queue"] == "kafka":
        headers = {name: text.encode() for name, text in record["headers"].items()}
        return from_kafka_event(KafkaMessage(headers=headers, key=None, value=value))
    # On NATS attributes are headers in the form of HTTP.
    return from_http_event(HTTPMessage(headers=record["headers"], body=value))


for line in open(sys.argv[1]):
    event = event_of(json.loads(line))
    attributes = {
        name: value.isoformat() if isinstance(value, datetime) else value for name, value in event.get_attributes().items()
    }
    print(json.dumps({"attributes": attributes, "data": event.get_data()}))
