//! `check`: is the configuration well, what does it come to, and do the servers that it names take the bridge?

mod connect;
mod devices;
mod report;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use self::report::Report;
use super::block_on;
use super::examples;
use super::input::parse_duration;
use super::output::Output;
use crate::app;
use crate::config::{self, Config, Loaded, Mistake, RegistrySource, Sources};
use crate::registry::FileRegistry;

/// Exit code of a configuration with mistakes (`EX_CONFIG` of sysexits).
pub const EXIT_CONFIGURATION: u8 = 78;

/// Checks the configuration and prints it as resolved, secrets redacted
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
#[command(after_help = examples::CHECK)]
pub struct CheckArgs {
    /// Do not read the file of the devices
    #[arg(long)]
    pub skip_registry: bool,

    /// Ask the servers as well: queue, topics or stream, permissions, registry, collector; changes and stores nothing
    #[arg(long)]
    pub connect: bool,

    /// The longest that the servers may take, all together
    #[arg(long, value_name = "DURATION", default_value = "10s", requires = "connect", value_parser = parse_duration)]
    pub timeout: Duration,

    /// Let a warning count as a mistake
    #[arg(long)]
    pub deny_warnings: bool,

    /// How to print; json: one object with ok, mistakes, warnings, configuration (as TOML) and, with --connect, findings
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// Looks at everything that can be wrong, and prints it all: mistakes and warnings to `err`, to `out` the resolved
/// configuration, or with `--connect` what was found. Exit code 78 with a mistake in the configuration, and with a warning
/// where those are denied; 1 where a server does not answer or not do what is needed of it; else 0.
pub fn run(args: &CheckArgs, sources: &Sources, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let (loaded, mistakes) = config::examine(sources);
    let mut report = Report::new(mistakes.iter().map(Mistake::to_string).collect());
    examine_parts(args, &loaded, &mistakes, &mut report);
    if args.connect && report.mistakes.is_empty() {
        match block_on(connect::look(&loaded.config, args.timeout)) {
            Ok(findings) => report.findings = Some(findings),
            Err(error) => report.mistakes.push(format!("no runtime: {error}")),
        }
    }
    report.print(&loaded.resolved.to_string(), args.output, out, err);
    report.exit_code(args.deny_warnings)
}

/// Looks at everything that needs no server.
fn examine_parts(args: &CheckArgs, loaded: &Loaded, known: &[Mistake], report: &mut Report) {
    let config = &loaded.config;
    report.warnings.extend(loaded.warnings.iter().map(ToString::to_string));
    // A mistake may be what keeps the number of connections from being another one.
    report.warnings.extend(app::check_open_files(config).filter(|_| known.is_empty()));
    let registry = if args.skip_registry { Ok(None) } else { read_registry(config) };
    let parts = [app::check_listeners(config), app::check_kafka(config), app::check_nats(config)];
    let texts = parts.iter().filter_map(|part| Some(format!("{:#}", part.as_ref().err()?)));
    let texts: Vec<String> = texts.chain(registry.as_ref().err().cloned()).collect();
    // A key that has a mistake already counts as not set, which is no further mistake.
    let is_new = |line: &&str| !known.iter().any(|mistake| line.starts_with(&mistake.key));
    report.mistakes.extend(texts.iter().flat_map(|text| text.lines()).filter(is_new).map(str::to_owned));
    report.warnings.extend(connect::expired(config));
    if let Ok(Some(registry)) = registry {
        devices::warn(config, &registry, &mut report.warnings);
        report.devices = Some(registry.len());
    }
}

/// Reads the file of the devices, if there is one; the error names the file in each line.
fn read_registry(config: &Config) -> Result<Option<FileRegistry>, String> {
    let (RegistrySource::File, Some(path)) = (config.registry.source, &config.registry.file) else { return Ok(None) };
    FileRegistry::open(path, config.registry.product_secrets).map(Some).map_err(|error| {
        let lines = error.to_string();
        let lines = lines.lines().map(|line| format!("registry.file.path: {}: {line}", path.display()));
        lines.collect::<Vec<_>>().join("\n")
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: CheckArgs,
    }

    fn check(settings: &[&str]) -> (String, String, String) {
        // As many as every machine has descriptors for.
        let settings = ["limits.connections=100"].iter().chain(settings).map(|text| (*text).to_owned()).collect();
        let sources = Sources { settings, ..Sources::default() };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let args = Line::try_parse_from(["check"]).unwrap().args;
        let code = run(&args, &sources, &mut out, &mut err);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (format!("{code:?}"), text(out), text(err))
    }

    fn code(code: u8) -> String {
        format!("{:?}", ExitCode::from(code))
    }

    fn devices() -> String {
        format!("registry.file.path={}/config/devices.toml", env!("CARGO_MANIFEST_DIR"))
    }

    #[test]
    fn a_good_configuration_is_printed_without_its_secrets() {
        let (exit, out, err) = check(&[&devices(), "admin.token=hush-hush-hush-hush", "mqtt.connect_timeout=7s"]);
        assert_eq!((exit, err.as_str()), (code(0), ""));
        assert!(out.contains("connect_timeout = \"7s\"") && out.contains("token = \"<redacted>\""), "{out}");
        assert!(out.contains("# devices in the registry: 4") && !out.contains("hush"), "{out}");
    }

    #[test]
    fn mistakes_are_all_told_and_nothing_is_printed() {
        let (exit, out, err) = check(&["mqtt.lisen=x", "drain.rate=many"]);
        assert_eq!((exit, out.as_str(), err.lines().count()), (code(78), "", 2));
    }

    #[test]
    fn warnings_are_told_and_change_nothing() {
        let (exit, _, err) = check(&[&devices(), "mqtt.listen=", "coap.listen="]);
        assert_eq!(exit, code(0));
        assert_eq!(err, "warning: mqtt.listen: no listener is on: no device can connect\n");
    }

    #[test]
    fn keys_that_cannot_encrypt_are_counted_when_coap_is_served() {
        let file = std::env::temp_dir().join(format!("jetlinks-bridge-check-{}.toml", std::process::id()));
        let device = |id: &str, key: &str| {
            format!("[[device]]\nid = \"{id}\"\nproduct = \"p\"\nsecure_id = \"s\"\nsecure_key = \"{key}\"\n")
        };
        std::fs::write(&file, device("device1", "testtesttesttest") + &device("device2", "short")).unwrap();
        let registry = format!("registry.file.path={}", file.display());
        let (exit, _, err) = check(&[&registry]);
        assert_eq!(exit, code(0));
        assert!(err.starts_with("warning: coap.listen: 1 device has a key that is not 16 bytes"), "{err}");
        let (_, _, quiet) = check(&[&registry, "coap.listen="]);
        assert_eq!(quiet, "");
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn a_certificate_that_cannot_be_used_is_a_mistake() {
        let listener =
            ["dtls.listen=127.0.0.1:0", "dtls.private_key=/nowhere/key", "dtls.token_secret=0123456789abcdef"];
        for (certificate, reason) in [
            ("dtls.certificate=/nowhere/certificate", "dtls.certificate: /nowhere/certificate: No such file"),
            ("dtls.certificate=-----BEGIN nothing", "dtls.private_key: /nowhere/key: No such file"),
        ] {
            let (exit, _, err) = check(&[&listener[..], &[certificate, &devices()]].concat());
            assert_eq!(exit, code(78));
            assert!(err.starts_with(reason), "{err}");
        }
    }

    #[test]
    fn what_the_queues_cannot_use_is_a_mistake_and_every_one_is_told() {
        let (exit, _, err) = check(&[
            &devices(),
            "uplink.queue=kafka",
            "commands.queue=nats",
            "kafka.brokers=127.0.0.1:1",
            "kafka.properties.no.such=1",
            "nats.servers=nats://127.0.0.1:1",
            "nats.credentials=/nowhere/creds",
        ]);
        assert_eq!(exit, code(78));
        let reasons: Vec<&str> = err.lines().collect();
        assert!(reasons[0].starts_with("kafka.properties: the Kafka property no.such is not taken"), "{err}");
        assert!(reasons[1].starts_with("nats: /nowhere/creds cannot be read"), "{err}");
        assert_eq!(reasons.len(), 2, "{err}");
    }

    #[test]
    fn what_librdkafka_was_not_built_with_is_a_mistake() {
        let with = |properties: &[&str]| {
            let kafka = ["uplink.queue=kafka", "kafka.brokers=127.0.0.1:1"].map(str::to_owned);
            let properties = properties.iter().map(|property| format!("kafka.properties.{property}"));
            let settings: Vec<String> = kafka.into_iter().chain([devices()]).chain(properties).collect();
            check(&settings.iter().map(String::as_str).collect::<Vec<_>>())
        };
        for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
            let (exit, _, err) = with(&[&format!("compression.codec={codec}")]);
            assert_eq!((exit, err.as_str()), (code(0), ""), "{codec}");
        }
        let protocol = "security.protocol=SASL_SSL";
        let oauth = [protocol, "sasl.mechanism=OAUTHBEARER"];
        let oidc = [&oauth[..], &["sasl.oauthbearer.method=oidc"]].concat();
        for (properties, reason) in [
            (&["compression.type=brotli"][..], "compression.type"),
            (&[protocol], "No provider for SASL mechanism GSSAPI"),
            (&[protocol, "sasl.mechanism=GSSAPI"], "No provider for SASL mechanism GSSAPI"),
            (&oauth, "sasl.mechanism is not taken: OAUTHBEARER needs"),
            (&oidc, "sasl.oauthbearer.method is not taken"),
            (&["linger.ms=x", "no.such=1"], "linger.ms is not taken"),
            (&["linger.ms=x", "no.such=1"], "no.such is not taken"),
        ] {
            let (exit, _, err) = with(properties);
            assert!(exit == code(78) && err.contains(reason), "{properties:?}: {err}");
        }
    }

    #[test]
    fn properties_of_the_consumer_of_commands_are_tried_out_too() {
        let kafka = ["commands.queue=kafka", "kafka.brokers=127.0.0.1:1", "nats.servers=nats://127.0.0.1:1"];
        let contradiction = "kafka.properties.max.poll.interval.ms=1000";
        let (exit, _, err) = check(&[&kafka[..], &[contradiction, &devices()]].concat());
        assert!(exit == code(78) && err.contains("max.poll.interval.ms"), "{err}");
    }

    #[test]
    fn a_registry_file_that_cannot_be_read_is_a_mistake() {
        let (exit, _, err) = check(&["registry.file.path=/nowhere/devices.toml"]);
        assert_eq!(exit, code(78));
        assert!(err.starts_with("registry.file.path: /nowhere/devices.toml: cannot be read"), "{err}");
    }

    #[test]
    fn everything_that_is_wrong_is_told_in_one_go_and_no_configuration_with_it() {
        let (exit, out, err) = check(&[
            "mqtt.lisen=x",
            "registry.file.path=/nowhere/devices.toml",
            "dtls.listen=127.0.0.1:0",
            "dtls.certificate=/nowhere/certificate",
            "dtls.private_key=/nowhere/key",
            "dtls.token_secret=0123456789abcdef",
            "uplink.queue=kafka",
            "kafka.brokers=127.0.0.1:1",
            "kafka.properties.no.such=1",
            "commands.queue=nats",
            "nats.servers=nats://127.0.0.1:1",
            "nats.credentials=/nowhere/creds",
        ]);
        assert_eq!((exit, out.as_str()), (code(78), ""));
        let starts = [
            "mqtt.lisen: ",
            "dtls.certificate: /",
            "dtls.private_key: /",
            "kafka.properties: ",
            "nats: ",
            "registry.file.path: ",
        ];
        let told: Vec<&str> = err.lines().collect();
        assert_eq!(told.len(), starts.len(), "{err}");
        assert!(told.iter().zip(starts).all(|(line, start)| line.starts_with(start)), "{err}");
    }

    #[test]
    fn a_key_that_has_a_mistake_is_told_once() {
        let (_, _, err) =
            check(&[&devices(), "mqtt.tls.listen=127.0.0.1:0", "uplink.queue=kafka", "kafka.brokers=kafka://a"]);
        let keys: Vec<_> = err.lines().filter_map(|line| line.split_once(": ")).map(|(key, _)| key).collect();
        assert_eq!(keys, ["mqtt.tls.certificate", "mqtt.tls.private_key", "kafka.brokers"], "{err}");
    }

    #[test]
    fn a_warning_is_a_mistake_where_it_is_denied() {
        let sources = Sources { settings: vec![devices(), "admin.token=short".to_owned()], ..Sources::default() };
        let with = |words: &[&str]| {
            let args = Line::try_parse_from([&["check"], words].concat()).unwrap().args;
            format!("{:?}", run(&args, &sources, &mut Vec::new(), &mut Vec::new()))
        };
        assert_eq!((with(&[]), with(&["--deny-warnings"])), (code(0), code(78)));
    }

    #[test]
    fn a_check_for_programs_is_one_object() {
        let object = |settings: &[&str]| {
            let settings = settings.iter().map(|text| (*text).to_owned()).collect();
            let args = Line::try_parse_from(["check", "--output", "json"]).unwrap().args;
            let (mut out, mut err) = (Vec::new(), Vec::new());
            run(&args, &Sources { settings, ..Sources::default() }, &mut out, &mut err);
            assert_eq!(err, b"");
            serde_json::from_slice::<serde_json::Value>(&out).unwrap()
        };
        let good = object(&[&devices()]);
        assert_eq!((&good["ok"], &good["devices"], &good["findings"]), (&true.into(), &4.into(), &().into()));
        assert!(good["configuration"].as_str().unwrap().contains("[mqtt]"), "{good}");
        let bad = object(&["mqtt.lisen=x"]);
        assert_eq!((&bad["ok"], &bad["configuration"]), (&false.into(), &().into()));
        assert_eq!(bad["mistakes"].as_array().map(Vec::len), Some(1 + usize::from(!bad["mistakes"][1].is_null())));
    }

    #[test]
    fn devices_that_cannot_work_as_they_are_and_those_of_the_samples_are_named() {
        let file = std::env::temp_dir().join(format!("jetlinks-bridge-check-odd-{}.toml", std::process::id()));
        let text = "[[device]]\nid = \"device1\"\nproduct = \"p\"\n[[device]]\nid = \"child1\"\nproduct = \"p\"\ngateway = \"gw9\"\n\
                    [[product]]\nid = \"p\"\nsecure_id = \"s\"\nsecure_key = \"k\"\n";
        std::fs::write(&file, text).unwrap();
        let (exit, _, err) = check(&[&format!("registry.file.path={}", file.display())]);
        std::fs::remove_file(file).unwrap();
        assert_eq!(exit, code(0));
        assert!(
            err.contains("warning: registry.file.path: devices whose gateway is not in the file: child1\n"),
            "{err}"
        );
        assert!(err.contains("warning: registry.product_secrets: devices without a secret of their own"), "{err}");
        let (_, _, open) = check(&[&devices(), "mqtt.listen=0.0.0.0:1883"]);
        assert!(open.starts_with("warning: mqtt.listen: not on loopback, and everybody knows"), "{open}");
        assert!(open.ends_with(": device1, gw1\n"), "{open}");
        assert_eq!(check(&[&devices()]).2, "");
    }
}
