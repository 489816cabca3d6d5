//! `trace`: what happens to a device, while it happens, on whichever replica.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{ArgGroup, Args};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Method, Response};
use serde_json::Value;
use tokio::time::timeout;

use super::admin::{ANSWER_TIMEOUT, AdminClient};
use super::check::EXIT_CONFIGURATION;
use super::input::{configuration, parse_duration};
use super::output::{self, Output};
use super::{block_on, examples};
use crate::app::Signals;
use crate::config::Sources;
use crate::http;
use crate::protocol::address;
use crate::telemetry::admin::FOLLOW_MAX;

/// Time without a line after which the connection counts as lost; an empty one comes every 10 s.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Longest line in bytes.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// Shows what happens to a device, while it happens: what came, what became of it, what was answered
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = examples::TRACE, group(ArgGroup::new("subject").required(true).args(["device", "product", "peer"])))]
pub struct TraceArgs {
    /// Follow this device, connected itself or as a child, also before it is connected: its refusals are shown
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,

    /// Follow the devices of this product
    #[arg(long, value_name = "PRODUCT")]
    pub product: Option<String>,

    /// Follow whoever connects from this address, with a port or without
    #[arg(long, value_name = "IP[:PORT]")]
    pub peer: Option<String>,

    /// Follow for this time, at most 1h
    #[arg(long = "for", value_name = "TIME", default_value = "5m", value_parser = parse_time)]
    pub longest: Duration,

    /// Only on the replica that is asked
    #[arg(long)]
    pub this_replica: bool,

    /// A replica to ask [default: admin.listen of the configuration, whose admin.token is shown, else 127.0.0.1:9090]
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<String>,

    /// How to print; json: the lines of /api/trace
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

fn parse_time(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    let is_within = (1..=FOLLOW_MAX.as_secs()).contains(&time.as_secs());
    if is_within { Ok(time) } else { Err("expected a time from 1s to 1h".to_owned()) }
}

/// Prints lines until the time is over, ctrl-C, or nobody reads them: exit code 0. 1 when the bridge refuses, does not
/// answer or is gone, 78 when the configuration has mistakes.
pub fn run(args: &TraceArgs, sources: &Sources, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let Some(config) = configuration(sources, err) else { return ExitCode::from(EXIT_CONFIGURATION) };
    let client = AdminClient::new(args.address.as_ref(), &config);
    let traced = block_on(trace(args, &client, out));
    match traced.map_err(anyhow::Error::from).flatten() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when stderr is closed; the exit code still tells.
            let _ = writeln!(err, "trace: {}: {}", client.address, output::escaped(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

/// Path and query of the request.
fn path(args: &TraceArgs) -> String {
    let TraceArgs { device, product, peer, longest, this_replica, .. } = args;
    let subjects = [("device", device), ("product", product), ("address", peer)];
    let subject =
        subjects.iter().find_map(|(name, value)| Some(format!("{name}={}", address::segment(value.as_deref()?))));
    let replicas = if *this_replica { "this" } else { "all" };
    format!("/api/trace?{}&for={}s&replicas={replicas}", subject.unwrap_or_default(), longest.as_secs())
}

async fn trace(args: &TraceArgs, client: &AdminClient<'_>, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    tokio::select! {
        () = signals.next() => Ok(()),
        shown = async {
            let path = path(args);
            let asked = client.ask(Method::GET, &path, String::new());
            let response = timeout(ANSWER_TIMEOUT, asked).await.context("no answer")??;
            show(response, args.output, out).await
        } => shown,
    }
}

/// Prints the lines as they come.
async fn show(response: Response<Incoming>, output: Output, out: &mut dyn Write) -> anyhow::Result<()> {
    let (mut body, mut buffer, mut own) = (response.into_body(), Vec::new(), String::new());
    loop {
        let Some(frame) = timeout(SILENCE_MAX, body.frame()).await.context("nothing comes any more")? else {
            return Ok(());
        };
        let frame = frame.map_err(|error| anyhow::anyhow!(http::with_causes(&error)))?;
        buffer.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let line = String::from_utf8_lossy(line.trim_ascii_end());
            let shown = match output {
                _ if line.is_empty() => continue,
                Output::Json => output::one_line(&line),
                Output::Text => sentence(&line, &mut own),
            };
            if writeln!(out, "{shown}").and_then(|()| out.flush()).is_err() {
                return Ok(());
            }
        }
        if buffer.len() > LINE_BYTES_MAX {
            bail!("a line has more than {LINE_BYTES_MAX} bytes");
        }
    }
}

/// A line for people; `own` keeps the id of the replica that was asked, which no line needs to name.
fn sentence(line: &str, own: &mut String) -> String {
    let Ok(line) = serde_json::from_str::<Value>(line) else { return output::one_line(line) };
    if let Some(count) = line["dropped"].as_u64() {
        return format!("{count} lines are left out here: more happens than can be shown");
    }
    let member = |name: &str| line[name].as_str().unwrap_or_default();
    let (replica, event) = (member("replicaId"), member("event"));
    if own.is_empty() {
        replica.clone_into(own);
    }
    // Without the date.
    let time = member("time").get(11..23).unwrap_or_default();
    let elsewhere = if replica == own { String::new() } else { format!(" [{replica}]") };
    let shown = format!("{time} {event:<12} {}{elsewhere}", member("text"));
    let mut shown = output::escaped(&shown).into_owned();
    let payload = ["payload", "payloadBase64"].map(member).concat();
    if !payload.is_empty() {
        shown.push_str(&format!("\n{:<25} {}", "", output::one_line(&payload)));
    }
    shown
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "plays the bridge on a socket of its own")]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;
    use std::thread;

    use clap::Parser as _;

    use super::super::{Action, CommandLine, shed};
    use super::*;
    use crate::telemetry::admin::TRACE_DEFAULT;

    fn args(line: &[&str]) -> Result<TraceArgs, clap::error::ErrorKind> {
        let line = ["jetlinks-bridge", "trace"].iter().chain(line);
        let line = CommandLine::try_parse_from(line).map_err(|error| error.kind())?;
        let Action::Trace(args) = line.action else { panic!("{:?}", line.action) };
        Ok(args)
    }

    #[test]
    fn the_line_becomes_a_request_or_is_refused() {
        for (line, expected) in [
            (&["--device", "device 1"][..], "/api/trace?device=device%201&for=300s&replicas=all"),
            (&["--product", "product1", "--for", "1h"], "/api/trace?product=product1&for=3600s&replicas=all"),
            (
                &["--peer", "[::1]:7", "--for", "1m30s", "--this-replica"],
                "/api/trace?address=%5B%3A%3A1%5D%3A7&for=90s&replicas=this",
            ),
        ] {
            assert_eq!(path(&args(line).expect("a good line")), expected);
        }
        assert_eq!(args(&["--device", "device1"]).map(|args| args.longest), Ok(TRACE_DEFAULT));
        use clap::error::ErrorKind::{ArgumentConflict, MissingRequiredArgument, ValueValidation};
        for (line, wrong) in [
            (&[][..], MissingRequiredArgument),
            (&["--device", "a", "--product", "b"], ArgumentConflict),
            (&["--device", "a", "--for", "61m"], ValueValidation),
            (&["--device", "a", "--for", "0s"], ValueValidation),
        ] {
            assert_eq!(args(line).err(), Some(wrong), "{line:?}");
        }
    }

    #[test]
    fn a_refusal_that_a_server_wrote_is_one_line_that_a_terminal_obeys_in_nothing() {
        const BODY: &str = r#"{"error":"\u001b[2J\u009b\ntrace: all is well"}"#;
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound").to_string();
        let server = thread::spawn(move || {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().expect("somebody asks");
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).expect("a head comes");
                    head.extend(byte);
                }
                write!(stream, "HTTP/1.1 400 Bad\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{BODY}", BODY.len())
                    .expect("it is read");
            }
        });
        for command in ["trace --device device1", "shed --status"] {
            let line = format!("jetlinks-bridge {command} --address {address}");
            let (mut out, mut err) = (Vec::new(), Vec::new());
            match CommandLine::try_parse_from(line.split(' ')).expect("a good line").action {
                Action::Trace(args) => run(&args, &Sources::default(), &mut out, &mut err),
                Action::Shed(args) => shed::run(&args, &Sources::default(), &mut out, &mut err),
                other => panic!("{other:?}"),
            };
            let err = String::from_utf8(err).expect("a text");
            assert!(err.ends_with("400 Bad Request: \\u001b[2J\\u009b\\u000atrace: all is well\n"), "{err:?}");
        }
        server.join().expect("both asked");
    }

    #[test]
    fn a_line_for_people_has_time_event_sentence_and_payload_and_nothing_that_a_terminal_obeys() {
        let mut own = String::new();
        let line = |replica: &str, rest: &str| {
            format!(
                r#"{{"time":"2026-11-27T23:01:02.345Z","replicaId":"{replica}","event":"publish","text":"a"{rest}}}"#
            )
        };
        assert_eq!(sentence(&line("r1", ""), &mut own), "23:01:02.345 publish      a");
        let payload = sentence(&line("r2", r#","payload":"{\"t\":1}\u001b""#), &mut own);
        assert_eq!(payload, "23:01:02.345 publish      a [r2]\n                          {\"t\":1}\\u001b");
        let forged = line("r1", r#","payload":"x\n23:01:02.346 connect      b""#).replace(r#""a""#, r#""a\nb""#);
        assert_eq!(
            sentence(&forged, &mut own),
            "23:01:02.345 publish      a\\u000ab\n                          x 23:01:02.346 connect      b"
        );
        assert!(sentence(r#"{"dropped":7}"#, &mut own).starts_with("7 lines are left out"));
        assert_eq!(sentence("no JSON\u{1b}", &mut own), "no JSON\\u001b");
    }
}
