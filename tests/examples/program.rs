//! The programs of docs/examples: built from the sources as they are, started, and read line by line.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use crate::support::{Folder, Process, eventually, tool};

/// How long a program may take for what takes a second on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A language of which there is one program for each task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Python,
    Java,
    Go,
}

impl Language {
    pub(crate) const ALL: [Self; 3] = [Self::Python, Self::Java, Self::Go];

    /// A call of a program, by its name in Python and Go: `consume_kafka` is `ConsumeKafka` in Java.
    fn call(self, program: &str) -> Command {
        match self {
            Self::Python => {
                let mut command = Command::new(tool::installed("venv/bin/python"));
                command.arg("-B").arg(sources("python").join(program).with_extension("py"));
                command
            }
            Self::Java => {
                let mut command = Command::new(tool::system("java"));
                command.args(["-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
                let class = program.split('_').map(capitalised).collect::<String>();
                command.arg(java_path(java_classes())).arg(format!("example.{class}"));
                command
            }
            Self::Go => Command::new(go_programs().join(program)),
        }
    }
}

fn capitalised(word: &str) -> String {
    match word {
        "jetstream" => "JetStream".to_owned(),
        _ => word[..1].to_uppercase() + &word[1..],
    }
}

fn sources(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples").join(language)
}

fn java_path(classes: &Path) -> String {
    format!("{}:{}", classes.display(), tool::installed("examples/java").join("*").display())
}

fn java_classes() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let classes = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples-java");
        drop(fs::remove_dir_all(&classes));
        fs::create_dir_all(&classes).unwrap();
        let sources = fs::read_dir(sources("java").join("src/main/java/example")).unwrap();
        let mut compiler = Command::new(tool::system("javac"));
        compiler
            .args(["-Xlint:deprecation,rawtypes,unchecked", "-Werror", "-cp", &java_path(&classes), "-d"])
            .arg(&classes);
        succeed(compiler.args(sources.map(|source| source.unwrap().path())));
        classes
    })
}

fn go_programs() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let programs = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples-go");
        fs::create_dir_all(&programs).unwrap();
        let mut go = Command::new(tool::system("go"));
        succeed(go.current_dir(sources("go")).args(["build", "-o"]).arg(&programs).arg("./..."));
        programs
    })
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}\n{}{}", text(&output.stdout), text(&output.stderr));
}

/// A running program; killed when dropped.
pub(crate) struct Program {
    pub(crate) language: Language,
    process: Process,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<thread::JoinHandle<()>>,
    folder: Folder,
}

impl Program {
    /// Starts a program with these arguments and variables.
    pub(crate) fn start(language: Language, name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = language.call(name);
        command.args(arguments).envs(variables.iter().copied());
        Self::spawn(language, name, command)
    }

    /// Starts one in each language.
    pub(crate) fn start_all(name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Vec<Self> {
        Language::ALL.map(|language| Self::start(language, name, arguments, variables)).into()
    }

    fn spawn(language: Language, name: &str, mut command: Command) -> Self {
        let folder = Folder::new(&format!("{name}-{language:?}"));
        let log = folder.path().join("errors.log");
        let errors = fs::File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let mut process = Process::spawn(&mut command, Some(&log));
        let stdout = BufReader::new(process.take_stdout().expect("stdout is piped"));
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let written = Arc::clone(&lines);
        let reader = thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                written.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Self { language, process, lines, reader: Some(reader), folder }
    }

    /// All that it has printed so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it has printed what is asked for.
    pub(crate) fn wait_for(&mut self, what: &str, mut is_there: impl FnMut(&[String]) -> bool) {
        let name = format!("{:?}: {what}", self.language);
        eventually(&name, PATIENCE, || {
            let is_there = is_there(&self.lines());
            let ended = self.process.ended();
            assert!(is_there || ended.is_none(), "{name}: it ended: {}\n{:?}", self.errors(), self.lines());
            is_there.then_some(())
        });
    }

    /// What it has written to stderr.
    pub(crate) fn errors(&self) -> String {
        fs::read_to_string(self.folder.path().join("errors.log")).unwrap_or_default()
    }

    /// Waits until stderr holds that text.
    pub(crate) fn wait_for_error(&self, text: &str) {
        let name = format!("{:?} writes {text:?}", self.language);
        eventually(&name, PATIENCE, || self.errors().contains(text).then_some(()));
    }

    /// Asks it to end, and checks that it does so without a complaint.
    pub(crate) fn terminate(mut self) -> Vec<String> {
        self.process.signal(libc::SIGTERM);
        let code = self.process.exit_code(PATIENCE);
        // Java ends by the signal, once it has tidied up.
        assert!([0, 143].contains(&code), "{:?} ended with {code}: {}", self.language, self.errors());
        self.join()
    }

    /// Waits for its own end. Returns the exit code and what it printed.
    pub(crate) fn finish(mut self) -> (i32, Vec<String>) {
        let code = self.process.exit_code(PATIENCE);
        (code, self.join())
    }

    fn join(mut self) -> Vec<String> {
        self.reader.take().expect("it is joined once").join().unwrap();
        self.lines()
    }
}
