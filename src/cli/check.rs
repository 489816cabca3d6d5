//! `check`: is the configuration well, and what does it come to?

use std::io::Write;
use std::process::ExitCode;

use crate::app;
use crate::config::{self, Loaded, RegistrySource, Sources};
use crate::protocol::cipher::KEY_BYTES;
use crate::registry::{Device, FileRegistry};

/// Exit code of a configuration with mistakes (`EX_CONFIG` of sysexits).
pub const EXIT_CONFIGURATION: u8 = 78;

/// Checks the configuration and prints it as resolved, secrets redacted
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct CheckArgs {
    /// Do not read the file of the devices
    #[arg(long)]
    pub skip_registry: bool,
}

/// Prints the resolved configuration to `out` and exits 0, or prints all mistakes to `err` and exits 78. Warnings go to
/// `err` and change nothing.
pub fn run(args: &CheckArgs, sources: &Sources, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let loaded = match config::load(sources) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(err, "{mistakes}");
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    for warning in &loaded.warnings {
        // As above.
        let _ = writeln!(err, "warning: {warning}");
    }
    if let Some(warning) = app::check_open_files(&loaded.config) {
        // As above.
        let _ = writeln!(err, "warning: {warning}");
    }
    let registry = if args.skip_registry { Ok(None) } else { check_registry(&loaded) };
    let config = &loaded.config;
    let parts = [app::check_listeners(config), app::check_kafka(config), app::check_nats(config)];
    // As above; the exit code still tells.
    let _ = write!(out, "{}", loaded.resolved);
    for error in parts.iter().filter_map(|part| part.as_ref().err()) {
        // As above.
        let _ = writeln!(err, "{error:#}");
    }
    match registry {
        Ok(_) if parts.iter().any(Result::is_err) => ExitCode::from(EXIT_CONFIGURATION),
        Ok(registry) => {
            if let Some(registry) = registry {
                // As above.
                let _ = writeln!(out, "\n# devices in the registry: {}", registry.len());
                warn_of_keys(&loaded, &registry, err);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            // As above.
            let _ = writeln!(err, "{error}");
            ExitCode::from(EXIT_CONFIGURATION)
        }
    }
}

/// Reads the file of the devices, if there is one; the error names the file in each line.
fn check_registry(loaded: &Loaded) -> Result<Option<FileRegistry>, String> {
    let config = &loaded.config.registry;
    let (RegistrySource::File, Some(path)) = (config.source, &config.file) else { return Ok(None) };
    match FileRegistry::open(path, config.product_secrets) {
        Ok(registry) => Ok(Some(registry)),
        Err(error) => {
            let lines: Vec<String> = error
                .to_string()
                .lines()
                .map(|line| format!("registry.file.path: {}: {line}", path.display()))
                .collect();
            Err(lines.join("\n"))
        }
    }
}

/// Says how many devices a listener for CoAP refuses because of their keys.
fn warn_of_keys(loaded: &Loaded, registry: &FileRegistry, err: &mut dyn Write) {
    let odd = registry.count(Device::cannot_encrypt);
    if odd > 0 && !loaded.config.coap.listen.is_empty() {
        // As above.
        let _ = writeln!(
            err,
            "warning: coap.listen: {odd} devices have keys that are not {KEY_BYTES} bytes: \
             they cannot encrypt CoAP (MQTT and DTLS take them)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(settings: &[&str]) -> (String, String, String) {
        // As many as every machine has descriptors for.
        let settings = ["limits.connections=100"].iter().chain(settings).map(|text| (*text).to_owned()).collect();
        let sources = Sources { settings, ..Sources::default() };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run(&CheckArgs::default(), &sources, &mut out, &mut err);
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
        let (exit, out, err) = check(&[&devices(), "admin.token=hush", "mqtt.connect_timeout=7s"]);
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
        assert!(err.starts_with("warning: coap.listen: 1 devices have keys that are not 16 bytes"), "{err}");
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
}
