"""Everything in docs/devices.md that a test can do works as it is written there."""

import hashlib
import json
import pathlib
import re
import socket
import subprocess
import tempfile
import time

import paho.mqtt.client as mqtt

from stage import (
    BRIDGE, NODE, PATIENCE_SECONDS, PYTHON, ROOT, SECURE_ID, SECURE_KEY, Bridge, Process, blocks, code, eventually, guide, program,
    rows, section, shell,
)

GUIDE = guide("devices.md")
UP = ["A line to copy for every topic", "Children", "Firmware"]
COMMANDS = "Commands and replies"
COAP = "CoAP with an encrypted body"
DTLS = "CoAP over DTLS"


def _functions(bridge):
    """Shell functions of the guide."""
    texts = [block for block in blocks(GUIDE, "sh") if re.search(r"^\w+\(\) \{$", block, re.MULTILINE)]
    assert len(texts) == 2, texts
    return bridge.here("".join(texts))


def _lines(heading):
    """Lines to copy below a heading, with the envelope type behind them."""
    lines = [(code(row[1]), code(row[2])) for row in rows(section(GUIDE, heading))]
    assert lines and all(line and kind for line, kind in lines), lines
    return lines


def _body(line):
    return re.search(r" '(.*)'", line)[1]


def _carries(data, body):
    """Whether data holds every member of a body, objects in it likewise; a body that is no JSON is raw bytes."""
    try:
        body = json.loads(body)
    except ValueError:
        return "payload" in data
    return all(data.get(name) == value if name != "headers" else value.items() <= data[name].items() for name, value in body.items())


def _check_lines(headings, function=None):
    """Runs every line below the headings, with another function of the shell if one is named; the number of lines."""
    seen = 0
    with Bridge() as bridge:
        functions = _functions(bridge)
        for heading in headings:
            for line, kind in _lines(heading):
                if function:
                    line = f"{function} {line.split(' ', 1)[1]}"
                # Its own message id tells the envelope of this line from those of others.
                mark, body = f"line{seen}", _body(line)
                if line.startswith("coap direct"):
                    assert "direct is off" in shell(f"{functions}\n{line} 2>&1")
                    continue
                told = line if body == "any bytes" else line.replace("'{", f"'{{\"messageId\":\"{mark}\",").replace(",}", "}")
                told = re.sub(r'("messageId":"line\d+"),"messageId":"\d+"', r"\1", told)
                shell(f"{functions}\n{told}")

                def is_it(envelope):
                    return envelope["origin"] == "device" and (
                        envelope["data"].get("messageId") == mark or body == "any bytes" and envelope["type"].endswith(".direct"))

                envelope = bridge.envelope(line, is_it)
                assert envelope["type"] == f"org.jetlinks.device.{kind}", (line, envelope)
                expected = re.sub(r'"messageId":"\d+",?', "", body)
                assert _carries(envelope["data"], expected), (line, envelope)
                seen += 1
    return seen


def every_line_becomes_the_envelope_beside_it():
    assert _check_lines(UP) >= 25


def every_line_of_coap_becomes_the_envelope_beside_it():
    assert _check_lines([COAP]) == 2


def every_topic_works_over_coap_too_except_direct():
    assert _check_lines(UP[:1], "coap") >= 14


def every_topic_of_the_protocol_has_a_line():
    told = {re.match(r"(?:pub|coap) (\S+) ", line)[1] for heading in UP for line, _ in _lines(heading)}
    replies = [code(row[2]) for row in rows(section(GUIDE, COMMANDS))]
    told |= {reply.split(" ")[1] for reply in replies}
    told = {re.sub(r"^child/\w+/", "", topic).replace("event/alarm", "event/{eventId}") for topic in told}
    came = {code(row[0]) for row in rows(section(GUIDE, COMMANDS))} | {"direct", "disconnect", "firmware/pull/reply"}
    for topics, way, *_ in rows(section(guide("wire.md"), "Topics")):
        for topic in re.findall(r"`([^`]+)`", topics):
            if "up" in way and topic not in ("properties/wirte/reply", "time-sync"):
                assert topic in told, topic
            if "down" in way:
                assert topic in came, topic


class _Device:
    """device1 on a client of MQTT, which keeps what comes."""

    def __init__(self, bridge):
        user = f"{SECURE_ID}|{time.time_ns() // 1_000_000}"
        self.came, ready = {}, []
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="device1", protocol=mqtt.MQTTv311)
        self.client.username_pw_set(user, hashlib.md5(f"{user}|{SECURE_KEY}".encode()).hexdigest())
        self.client.on_message = lambda client, data, message: self.came.setdefault(message.topic, []).append(message.payload)
        self.client.on_subscribe = lambda *_: ready.append(True)
        self.client.connect("127.0.0.1", bridge.ports["mqtt"])
        self.client.loop_start()
        self.client.subscribe("/product1/device1/#", qos=1)
        eventually("SUBACK", lambda: ready)


def every_command_comes_as_shown_and_its_reply_is_the_outcome():
    with Bridge() as bridge:
        device = _Device(bridge)
        last = None
        for number, (topic, body, reply) in enumerate(rows(section(GUIDE, COMMANDS))):
            last = (code(topic), json.loads(code(body))) if code(body) else last
            topic, message = last
            identity = f"m{number}"
            bridge.command({**message, "messageId": identity, "productId": "product1"})
            came = eventually(topic, lambda: [
                one for one in map(json.loads, device.came.get(f"/product1/device1/{topic}", [])) if one["messageId"] == identity])
            assert came[0] == {**message, "messageId": identity}, (came, message)
            path, answer = re.fullmatch(r"pub (\S+) '(.*)'", code(reply)).groups()
            answer = {**json.loads(answer), "messageId": identity}
            device.client.publish(f"/product1/device1/{path}", json.dumps(answer), qos=1)
            outcome = bridge.envelope(reply, lambda envelope: envelope.get("correlationid") == identity)
            assert outcome["origin"] == "device" and _carries(outcome["data"], json.dumps(answer)), outcome
        device.client.disconnect()


def time_is_answered():
    with Bridge() as bridge:
        script = next(block for block in blocks(GUIDE, "sh") if "mosquitto_rr" in block)
        answer = json.loads(shell(bridge.here(script)))
        assert answer["messageId"] == "1" and abs(answer["timestamp"] - time.time() * 1000) < 60_000, answer


def the_command_for_the_terminal_reaches_the_device():
    with Bridge() as bridge:
        device = _Device(bridge)
        bridge.process.stdin.write(blocks(section(GUIDE, COMMANDS), "json")[0])
        eventually("the command", lambda: device.came.get("/product1/device1/properties/read"))
        device.client.disconnect()


def _paho():
    return [PYTHON], blocks(section(GUIDE, "Python: Paho"), "python")[0], ".py"


def _mqttjs():
    return [NODE], blocks(section(GUIDE, "Node.js: MQTT.js"), "js")[0], ".mjs"


def _program_reports_answers_and_returns(command, text, suffix):
    with Bridge() as bridge:
        folder, path = program(bridge.here(text), suffix)
        with folder, Process([*command, path]):
            bridge.envelope("a report", lambda envelope: envelope["type"].endswith("properties.report"))
            bridge.command({"messageType": "READ_PROPERTY", "messageId": "c1", "productId": "product1", "deviceId": "device1",
                            "properties": ["sn"]})
            outcome = bridge.envelope("the reply", lambda envelope: envelope.get("correlationid") == "c1")
            assert outcome["data"]["properties"] == {"sn": "A-0001"}, outcome
            first = bridge.envelope("a session", lambda envelope: envelope["type"].endswith(".online"))["sessionid"]
            bridge.ask("/api/sessions/device1", "DELETE")
            bridge.envelope("another session", lambda envelope: envelope["type"].endswith(".online") and envelope["sessionid"] != first)


def _users_of_two_connects(command, text, suffix):
    """User names that a program gives in two CONNECTs to a server that closes each connection after a while."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE_SECONDS)
        folder, path = program(re.sub(r"\b1883\b", str(server.getsockname()[1]), text), suffix)
        users = []
        with folder, Process([*command, path]):
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    packet = connection.recv(1024)
                    users.append(re.search(rb"test\|\d+", packet)[0])
                    connection.sendall(bytes([0x20, 2, 0, 0]))
        return users


def the_program_for_paho_reports_answers_and_returns():
    _program_reports_answers_and_returns(*_paho())


def the_program_for_mqttjs_reports_answers_and_returns():
    _program_reports_answers_and_returns(*_mqttjs())


def no_program_uses_credentials_twice():
    for command, text, suffix in (_paho(), _mqttjs()):
        first, second = _users_of_two_connects(command, text, suffix)
        assert first != second, (suffix, first)


def the_program_for_aiocoap_stores_a_report():
    with Bridge() as bridge:
        folder, path = program(bridge.here(blocks(section(GUIDE, COAP), "python")[0]), ".py")
        with folder:
            done = subprocess.run([PYTHON, path], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        assert done.stdout.startswith("2.01"), done
        bridge.envelope("the report", lambda envelope: envelope["data"].get("properties") == {"temperature": 36.8})


def the_commands_that_help_without_a_server_answer():
    told = [code(row[0]) for row in rows(section(GUIDE, "When it does not work")) if code(row[0])]
    explain, credentials = told[:2]
    assert "explain" in explain and "credentials" in credentials, told
    shell_of = f"cd {ROOT}; jetlinks-bridge() {{ {BRIDGE} \"$@\"; }}\n"
    assert "org.jetlinks.device.properties.report" in shell(shell_of + explain)
    assert "mosquitto_pub" in shell(shell_of + credentials)


def a_trace_shows_what_a_line_does():
    told = next(row for row in map(lambda row: code(row[0]), rows(section(GUIDE, "When it does not work"))) if row and " trace " in row)
    with Bridge() as bridge:
        command = [BRIDGE, *told.split()[1:], "--address", f"127.0.0.1:{bridge.ports['admin']}"]
        with Process(command) as trace:
            trace.find("its beginning", lambda line: "following" in line)
            shell(f"{_functions(bridge)}\n{_lines(UP[0])[0][0]}")
            trace.find("the message", lambda line: "/product1/device1/properties/report" in line)
            trace.find("its acknowledgement", lambda line: "acknowledged" in line)


def _certificate(folder):
    certificate, key = pathlib.Path(folder) / "certificate.pem", pathlib.Path(folder) / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True)
    return certificate, key


def over_dtls_libcoap_and_mbedtls_store_a_report():
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = _certificate(folder)
        with Bridge(dtls=(certificate, key)) as bridge:
            shell(bridge.here(blocks(section(GUIDE, DTLS), "sh")[0]))
            first = bridge.envelope("a report by libcoap", lambda envelope: "properties" in envelope["data"])
            folder_of, path = program(bridge.here(blocks(section(GUIDE, DTLS), "python")[0]), ".py")
            with folder_of:
                done = subprocess.run([PYTHON, path, certificate], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
            assert done.stdout.startswith("2.01"), done
            bridge.envelope("a report by Mbed TLS", lambda envelope: envelope["id"] != first["id"] and "properties" in envelope["data"])
