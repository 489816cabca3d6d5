//! The system calls of a command by themselves.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of each message.
const MESSAGE: [u8; 200] = [b'x'; 200];

/// The connections that a command goes over, seen from one of their ends.
struct Ends {
    commands: TcpStream,
    device: TcpStream,
    records: TcpStream,
}

/// Microseconds of a thread that does for each command what it takes at least, with blocking sockets and without looking at
/// a byte: it waits for the command and passes it to the device, waits for the reply and writes outcome and record, waits
/// for the receipt of the queue and writes PUBACK.
pub(super) fn cost_us(per_second: u32, seconds: u32) -> f64 {
    let (mut bridge, mut others) = connect().expect("loopback takes connections");
    let commands = per_second * seconds;
    let bridge = thread::spawn(move || {
        let begin = thread_time();
        for _ in 0..commands {
            bridge.relay()?;
        }
        io::Result::Ok(thread_time().saturating_sub(begin))
    });
    let start = Instant::now();
    for number in 0..commands {
        let due = start + Duration::from_secs(1) / per_second * number;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        others.command().expect("the thread relays");
    }
    let time = bridge.join().expect("the thread ends").expect("its sockets work");
    time.as_secs_f64() * 1e6 / f64::from(commands)
}

fn connect() -> io::Result<(Ends, Ends)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let pair = || {
        let near = TcpStream::connect(listener.local_addr()?)?;
        let far = listener.accept()?.0;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        io::Result::Ok((near, far))
    };
    let (commands, device, records) = (pair()?, pair()?, pair()?);
    let near = Ends { commands: commands.0, device: device.0, records: records.0 };
    let far = Ends { commands: commands.1, device: device.1, records: records.1 };
    Ok((near, far))
}

impl Ends {
    /// One command, at the bridge's ends.
    fn relay(&mut self) -> io::Result<()> {
        let mut buffer = MESSAGE;
        self.commands.read_exact(&mut buffer)?;
        self.device.write_all(&buffer)?;
        self.device.read_exact(&mut buffer)?;
        self.commands.write_all(&buffer)?;
        self.records.write_all(&buffer)?;
        self.records.read_exact(&mut buffer)?;
        self.device.write_all(&buffer)
    }

    /// The same command, at the ends of caller, device and queue.
    fn command(&mut self) -> io::Result<()> {
        let mut buffer = MESSAGE;
        self.commands.write_all(&buffer)?;
        self.device.read_exact(&mut buffer)?;
        self.device.write_all(&buffer)?;
        self.commands.read_exact(&mut buffer)?;
        self.records.read_exact(&mut buffer)?;
        self.records.write_all(&buffer)?;
        self.device.read_exact(&mut buffer)
    }
}

/// Processor time of the calling thread (`/proc/thread-self/schedstat`, first number: ns).
fn thread_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("the kernel counts processor time of threads");
    let time = text.split_whitespace().next().and_then(|time| time.parse().ok());
    Duration::from_nanos(time.expect("the first field is a number"))
}
