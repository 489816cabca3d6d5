//! `health`: does the bridge behind this address turn? For images, which hold no other program that could ask.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};

/// How long connecting, sending and each part of the answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest first line of an answer, in bytes.
const LINE_BYTES_MAX: u64 = 256;

/// Asks a running bridge whether it lives
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct HealthArgs {
    /// Where it listens for probes, its admin.listen
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9090")]
    pub address: String,

    /// Ask whether it is ready, not whether it lives
    #[arg(long)]
    pub ready: bool,
}

/// Exits 0 when the answer is 200; else tells `err` why not, and exits 1. No configuration is read: the bridge may have
/// been started with another one than this command would find.
pub fn run(args: &HealthArgs, err: &mut dyn Write) -> ExitCode {
    match ask(&args.address, if args.ready { "/readyz" } else { "/livez" }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when stderr is closed; the exit code still does.
            let _ = writeln!(err, "health: {}: {error:#}", args.address);
            ExitCode::FAILURE
        }
    }
}

fn ask(address: &str, path: &str) -> anyhow::Result<()> {
    let mut stream = connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
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
        match TcpStream::connect_timeout(&candidate, PATIENCE) {
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
        let code = run(&HealthArgs { address, ready }, &mut err);
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
            let exit = run(&HealthArgs { address, ready: false }, &mut Vec::new());
            assert_eq!(code(exit), code(ExitCode::FAILURE));
        }
    }
}
