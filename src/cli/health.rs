//! `health`: is the bridge behind this address alive? For images, which hold no other program that could ask.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};

use super::check::EXIT_CONFIGURATION;
use super::examples;
use super::input::reachable;
use crate::config::{self, Sources};

/// How long connecting, sending and each part of the answer may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest first line of an answer, in bytes.
const LINE_BYTES_MAX: u64 = 256;

/// Checks that a running bridge is alive
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
#[command(after_help = examples::HEALTH)]
pub struct HealthArgs {
    /// Where it listens for probes [default: admin.listen of the configuration, else 127.0.0.1:9090]
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<String>,

    /// Check that it is ready for devices, not that it is alive
    #[arg(long)]
    pub ready: bool,
}

/// Exits 0 when the answer is 200; else tells `err` why not, and exits 1, or 78 when the configuration names no address. Of the
/// configuration that one key counts, whatever else may be missing: a container knows the files of its bridge only by their
/// mounts.
pub fn run(args: &HealthArgs, sources: &Sources, err: &mut dyn Write) -> ExitCode {
    let address = match args.address.clone().map_or_else(|| configured(sources), Ok) {
        Ok(address) => address,
        Err(reason) => {
            // Nobody is left to tell when stderr is closed; the exit code still does.
            let _ = writeln!(err, "health: {reason}");
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    match ask(&address, if args.ready { "/readyz" } else { "/livez" }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(err, "health: {address}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Where the bridge of this configuration listens for probes.
fn configured(sources: &Sources) -> Result<String, String> {
    let (loaded, mistakes) = config::examine(sources);
    let names_a_source =
        |key: &str| key == "--set" || sources.files.iter().any(|file| key.starts_with(&*file.to_string_lossy()));
    if let Some(mistake) = mistakes.iter().find(|mistake| mistake.key == "admin.listen" || names_a_source(&mistake.key))
    {
        return Err(mistake.to_string());
    }
    let first = loaded.config.admin.listen.first().ok_or("admin.listen is off: nothing can be asked")?;
    Ok(reachable(*first).to_string())
}

fn ask(address: &str, path: &str) -> anyhow::Result<()> {
    let mut stream = connect(address)?;
    stream.set_read_timeout(Some(STEP_TIMEOUT))?;
    stream.set_write_timeout(Some(STEP_TIMEOUT))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).context("cannot be asked")?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut line).context("no answer")?;
    match line.split(' ').nth(1) {
        Some("200") if line.starts_with("HTTP/1.") => Ok(()),
        _ => bail!("{path}: {:?}", line.trim_end()),
    }
}

/// The first address of the name that takes the connection; a name may stand for IPv4 and IPv6.
fn connect(address: &str) -> anyhow::Result<TcpStream> {
    let mut failure = None;
    for candidate in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&candidate, STEP_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.map_or_else(|| anyhow::anyhow!("no such address"), Into::into))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "plays the bridge on a socket of its own")]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Output of the command for a server that answers `answer`, and the request that the server got.
    fn health(answer: &'static str, ready: bool) -> (String, String, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let asked = lines.next().unwrap().unwrap();
            // The rest of the head is read, for closing with bytes unread would reset the connection.
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            stream.write_all(answer.as_bytes()).unwrap();
            asked
        });
        let mut err = Vec::new();
        let code = run(&HealthArgs { address: Some(address), ready }, &Sources::default(), &mut err);
        (format!("{code:?}"), String::from_utf8(err).unwrap(), server.join().unwrap())
    }

    fn code(code: ExitCode) -> String {
        format!("{code:?}")
    }

    #[test]
    fn a_bridge_that_answers_200_is_well() {
        let (exit, err, asked) = health("HTTP/1.1 200 OK\r\n\r\n", false);
        assert_eq!((exit, err.as_str(), asked.as_str()), (code(ExitCode::SUCCESS), "", "GET /livez HTTP/1.1"));
    }

    #[test]
    fn readiness_is_asked_for_when_wanted_and_503_is_a_failure() {
        let (exit, err, asked) = health("HTTP/1.1 503 Service Unavailable\r\n\r\n", true);
        assert_eq!((exit, asked.as_str()), (code(ExitCode::FAILURE), "GET /readyz HTTP/1.1"));
        assert!(err.ends_with(": /readyz: \"HTTP/1.1 503 Service Unavailable\"\n"), "{err}");
    }

    #[test]
    fn what_speaks_no_http_is_a_failure() {
        for answer in ["", "SSH-2.0 200 \r\n", "200 200 200\r\n"] {
            assert_eq!(health(answer, false).0, code(ExitCode::FAILURE), "{answer:?}");
        }
    }

    #[test]
    fn an_address_that_nobody_listens_on_is_a_failure() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for address in [free.to_string(), "127.0.0.1".to_owned()] {
            let exit = run(&HealthArgs { address: Some(address), ready: false }, &Sources::default(), &mut Vec::new());
            assert_eq!(code(exit), code(ExitCode::FAILURE));
        }
    }

    #[test]
    fn the_address_is_that_of_the_configuration_whatever_else_it_lacks() {
        let with = |setting: &str, files: &[&str]| {
            let environment = [("JETLINKS_BRIDGE__UPLINK__QUEUE".to_owned(), "nats".to_owned())].into();
            let files = files.iter().map(Into::into).collect();
            configured(&Sources { files, environment, settings: vec![setting.to_owned()] })
        };
        assert_eq!(with("admin.listen=127.0.0.1:19090", &[]).as_deref(), Ok("127.0.0.1:19090"));
        assert_eq!(with("admin.listen=0.0.0.0:19090", &[]).as_deref(), Ok("127.0.0.1:19090"));
        assert_eq!(configured(&Sources::default()).as_deref(), Ok("127.0.0.1:9090"));
        assert!(with("admin.listen=", &[]).unwrap_err().contains("admin.listen is off"));
        assert!(with("admin.listen=nowhere", &[]).unwrap_err().starts_with("admin.listen: \"nowhere\" given"));
        assert!(with("admin.listen=127.0.0.1:1", &["/nowhere.toml"]).unwrap_err().starts_with("/nowhere.toml: "));
    }
}
