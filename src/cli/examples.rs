//! The examples below the help of each subcommand. A test reads every line of them as a command line.

pub(super) const RUN: &str = "\
Examples:
  jetlinks-bridge run
  jetlinks-bridge run --config config/nats.toml --set log.level=debug
  JETLINKS_BRIDGE__MQTT__LISTEN=0.0.0.0:1883 jetlinks-bridge run --config config/production.toml

Without --config and without a JETLINKS_BRIDGE__ variable it runs as in config/dev.toml: devices on loopback, envelopes on
stdout, commands from stdin.";

pub(super) const CHECK: &str = "\
Examples:
  jetlinks-bridge check --config config/production.toml
  jetlinks-bridge check --config config/nats.toml --deny-warnings --set limits.ack_timeout=5s
  jetlinks-bridge check --config config/nats.toml --connect --timeout 5s --output json

With --connect nothing is stored and nothing is made. NATS is asked by messages that the stream refuses; a subscriber without
JetStream sees them, below jetlinks-bridge-check and without a payload. A Kafka that never had a consumer group makes the
topic of its offsets when it is asked about one. What was not tried is marked as a note.";

pub(super) const COMPLETIONS: &str = "\
Examples:
  source <(jetlinks-bridge completions bash)
  jetlinks-bridge completions zsh > _jetlinks-bridge
  jetlinks-bridge completions fish | source";

pub(super) const CREDENTIALS: &str = "\
Examples:
  jetlinks-bridge credentials device1
  jetlinks-bridge credentials device1 --config config/nats.toml --output json";

pub(super) const DEVICES: &str = "\
Examples:
  jetlinks-bridge devices import devices.csv --config config/nats.toml
  jetlinks-bridge devices ls --config config/nats.toml --product product1

The bridge reads this registry with registry.source = \"nats\".";

pub(super) const DEVICES_LS: &str = "\
Examples:
  jetlinks-bridge devices ls --config config/nats.toml
  jetlinks-bridge devices ls --config config/nats.toml --product product1 --output json";

pub(super) const DEVICES_GET: &str = "\
Examples:
  jetlinks-bridge devices get device1 --config config/nats.toml
  jetlinks-bridge devices get gw1 --config config/nats.toml --output json";

pub(super) const DEVICES_PUT: &str = "\
Examples:
  jetlinks-bridge devices put --config config/nats.toml --id device1 --product product1 --secure-id test --secure-key-file key
  jetlinks-bridge devices put --config config/nats.toml --id child1 --product product2 --gateway gw1";

pub(super) const DEVICES_RM: &str = "\
Examples:
  jetlinks-bridge devices rm device1 --config config/nats.toml
  jetlinks-bridge devices rm device1 child1 --config config/nats.toml";

pub(super) const DEVICES_IMPORT: &str = "\
Examples:
  jetlinks-bridge devices import config/devices.toml --config config/nats.toml
  jetlinks-bridge devices import devices.csv --config config/nats.toml --keep-going
  jetlinks-bridge devices import - --config config/nats.toml < devices.json

A table:
  id,product,secure_id,secure_key,gateway,enabled
  device1,product1,test,testtesttesttest,,true
  child1,product2,,,gw1,";

pub(super) const DEVICES_EXPORT: &str = "\
Examples:
  jetlinks-bridge devices export --config config/nats.toml > devices.toml
  jetlinks-bridge devices export --config config/nats.toml --output json | jq -r .id";

pub(super) const EXPLAIN: &str = "\
Examples:
  jetlinks-bridge explain --topic /product1/device1/properties/report --payload '{\"properties\":{\"temp\":36.80}}'
  jetlinks-bridge explain --config config/nats.toml --topic /product1/gw1/child/child1/event/alarm --payload @alarm.json --fail
  jetlinks-bridge explain --command '{\"messageType\":\"READ_PROPERTY\",\"productId\":\"product1\",\"deviceId\":\"device1\"}'";

pub(super) const HEALTH: &str = "\
Examples:
  jetlinks-bridge health
  jetlinks-bridge health --config config/production.toml --ready
  jetlinks-bridge health --address 10.0.0.7:9090 && echo alive";

pub(super) const MANUAL: &str = "\
Examples:
  jetlinks-bridge manual /usr/local/share/man/man1
  jetlinks-bridge manual . && man -l jetlinks-bridge.1";

pub(super) const SCHEMA: &str = "\
Examples:
  jetlinks-bridge schema envelope
  jetlinks-bridge schema envelope properties.report
  jetlinks-bridge schema asyncapi --config config/nats.toml
  jetlinks-bridge schema all --output schemas

Without a type the names of all are printed. A configuration gives an AsyncAPI document its topics and subjects.";

pub(super) const SCHEMA_ENVELOPE: &str = "\
Examples:
  jetlinks-bridge schema envelope
  jetlinks-bridge schema envelope properties.report";

pub(super) const SCHEMA_DATA: &str = "\
Examples:
  jetlinks-bridge schema data
  jetlinks-bridge schema data event";

pub(super) const SCHEMA_COMMAND: &str = "\
Examples:
  jetlinks-bridge schema command
  jetlinks-bridge schema command READ_PROPERTY";

pub(super) const SCHEMA_COMMAND_BODY: &str = "\
Examples:
  jetlinks-bridge schema command-body
  jetlinks-bridge schema command-body WRITE_PROPERTY";

pub(super) const SCHEMA_OUTCOME: &str = "\
Examples:
  jetlinks-bridge schema outcome
  jetlinks-bridge schema outcome INVOKE_FUNCTION";

pub(super) const SCHEMA_ASYNCAPI: &str = "\
Examples:
  jetlinks-bridge schema asyncapi > asyncapi.json
  jetlinks-bridge schema asyncapi --config config/nats.toml";

pub(super) const SCHEMA_OPENAPI: &str = "\
Examples:
  jetlinks-bridge schema openapi
  jetlinks-bridge schema openapi > openapi.json";

pub(super) const SCHEMA_ALL: &str = "\
Examples:
  jetlinks-bridge schema all --output schemas
  jetlinks-bridge schema all --output schemas --config config/nats.toml";

pub(super) const SEND: &str = "\
Examples:
  jetlinks-bridge send --config config/nats.toml --device product1/device1 --type properties.read '{\"properties\":[\"sn\"]}'
  jetlinks-bridge send --config config/nats.toml --device product1/gw1/child1 --type function.invoke '{\"function\":\"reboot\"}'
  jetlinks-bridge send --config config/nats.toml --timeout 5s @command.json";

pub(super) const SHED: &str = "\
Examples:
  jetlinks-bridge shed --to mean --rate 50 --wait --config config/nats.toml
  jetlinks-bridge shed --sessions 100 --replica bridge-0
  jetlinks-bridge shed --status";

pub(super) const SIMULATE: &str = "\
Examples:
  jetlinks-bridge simulate --config config/nats.toml
  jetlinks-bridge simulate --generate 1000 --write-registry devices.toml
  jetlinks-bridge simulate --address 127.0.0.1:1883 --generate 1000 --rate 1 --duration 60s --ledger ledger";

pub(super) const TAIL: &str = "\
Examples:
  jetlinks-bridge tail --config config/nats.toml --device gw1 --type online --type offline
  jetlinks-bridge tail --config config/nats.toml --last 10 --no-follow
  jetlinks-bridge tail --config config/nats.toml --last 5 --type rejected | jq .data";

pub(super) const TRACE: &str = "\
Examples:
  jetlinks-bridge trace --device device1 --for 5m
  jetlinks-bridge trace --product product1 --config config/nats.toml --output json
  jetlinks-bridge trace --peer 192.0.2.7 --address 10.0.0.7:9090";

pub(super) const VERIFY: &str = "\
Examples:
  jetlinks-bridge verify --ledger ledger --config config/nats.toml --since 10m
  jetlinks-bridge verify --ledger ledger --envelopes envelopes.jsonl --output json";

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory as _, Parser as _};

    use crate::cli::CommandLine;

    /// A command line as a shell takes it apart, as far as it is the bridge's; without variables in front of it.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
        for character in line.chars() {
            match character {
                '\'' => quoted = !quoted,
                '|' | '<' | '>' | '&' | ')' if !quoted => break,
                ' ' if !quoted => words.push(std::mem::take(&mut word)),
                _ => word.push(character),
            }
        }
        words.push(word);
        words.retain(|word| !word.is_empty());
        words
    }

    fn check(command: &Command, path: &str, wrong: &mut Vec<String>) {
        for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
            let path = format!("{path} {}", subcommand.get_name());
            let help = subcommand.get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines =
                help.lines().skip_while(|line| *line != "Examples:").skip(1).take_while(|line| !line.is_empty());
            let examples: Vec<&str> = lines.filter_map(|line| Some(&line[line.find("jetlinks-bridge ")?..])).collect();
            if examples.len() < 2 {
                wrong.push(format!("{path} has {} examples", examples.len()));
            }
            for example in examples {
                if !example.starts_with(&path) {
                    wrong.push(format!("{path}: another subcommand: {example}"));
                }
                if let Err(error) = CommandLine::try_parse_from(words(example)) {
                    wrong.push(format!("{path}: {example}: {error}"));
                }
            }
            check(subcommand, &path, wrong);
        }
    }

    #[test]
    fn the_help_of_each_subcommand_ends_with_examples_that_are_command_lines() {
        let mut wrong = Vec::new();
        check(&CommandLine::command(), "jetlinks-bridge", &mut wrong);
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
