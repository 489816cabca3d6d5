//! Where processes run.

use std::ffi::OsStr;
use std::process::Command;
use std::thread;

/// Processors from which on each process of a pair, but for the queues, has one of its own.
const FOR_TWO_PAIRS: usize = 4;

/// Cores of a server and of its devices. Queues run wherever the system puts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cores {
    /// Wherever the system puts them.
    Any,
    /// The server on this core, its devices on that.
    Apart { server: usize, devices: usize },
}

impl Cores {
    /// Both servers of a pair on one core, and the devices of both on another.
    pub(crate) const SHARED: [Self; 2] = [Self::Apart { server: 0, devices: 1 }; 2];

    /// Four cores where the machine has them, else [`Cores::SHARED`].
    pub(crate) fn of_pair() -> [Self; 2] {
        if thread::available_parallelism().map_or(1, usize::from) < FOR_TWO_PAIRS {
            return Self::SHARED;
        }
        [Self::Apart { server: 0, devices: 1 }, Self::Apart { server: 2, devices: 3 }]
    }

    /// A call of a server.
    pub(crate) fn server(self, program: impl AsRef<OsStr>) -> Command {
        self.command(program.as_ref(), |server, _| server)
    }

    /// A call of simulated devices.
    pub(crate) fn devices(self, program: impl AsRef<OsStr>) -> Command {
        self.command(program.as_ref(), |_, devices| devices)
    }

    fn command(self, program: &OsStr, which: fn(usize, usize) -> usize) -> Command {
        match self {
            Cores::Any => Command::new(program),
            Cores::Apart { server, devices } => {
                let mut command = Command::new("taskset");
                command.arg("--cpu-list").arg(which(server, devices).to_string()).arg(program);
                command
            }
        }
    }
}
