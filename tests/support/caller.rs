//! A caller of commands over NATS, for tests that ask faster than a command line starts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectOptions, StatusCode, jetstream};
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::Value;
use tokio::sync::mpsc;

use super::Registration;

/// How long a connection to the server, and an answer of it, may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A question that any device can answer, with five seconds for it.
pub(crate) const READ: &str = r#"{"properties":["sn"],"headers":{"timeout":5000}}"#;

/// Answer to a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    /// The envelope; null for "no responders".
    pub(crate) envelope: Value,
    /// Header `Nats-Service-Error-Code`.
    pub(crate) error_code: Option<String>,
    /// Time since the question.
    pub(crate) after: Duration,
}

impl Answer {
    /// Whether the server said that nobody listens.
    pub(crate) fn is_no_responders(&self) -> bool {
        self.envelope.is_null()
    }

    /// Whether the device itself answered.
    pub(crate) fn is_of_device(&self) -> bool {
        self.envelope["origin"] == "device"
    }

    /// Code of a failure of the bridge, `NO_RESPONDERS`, or empty.
    pub(crate) fn code(&self) -> &str {
        match self.is_no_responders() {
            true => "NO_RESPONDERS",
            false => self.envelope["data"]["code"].as_str().unwrap_or_default(),
        }
    }
}

/// Asks without waiting and keeps every answer: a second one to the same question would be found.
pub(crate) struct Caller {
    questions: mpsc::UnboundedSender<Question>,
    book: Arc<Book>,
}

struct Question {
    number: usize,
    subject: String,
    reply: Option<String>,
    payload: Bytes,
}

#[derive(Default)]
struct Book {
    pages: Mutex<Vec<Page>>,
    answered: Condvar,
}

struct Page {
    asked: Instant,
    answers: Vec<Answer>,
}

impl Caller {
    /// Connects to these servers, and to others of them when one goes away.
    ///
    /// # Panics
    /// When none answers in time.
    pub(crate) fn connect(urls: &[String]) -> Self {
        let (questions, mut asked) = mpsc::unbounded_channel::<Question>();
        let book = Arc::new(Book::default());
        let (urls, writing) = (urls.to_vec(), Arc::clone(&book));
        let (ready, is_ready) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
            runtime.block_on(async {
                let options = options(&urls).ping_interval(Duration::from_secs(1)).subscription_capacity(1 << 20);
                let client = options.connect(urls).await.expect("the server is there");
                let inbox = client.new_inbox();
                let mut answers = client.subscribe(format!("{inbox}.*")).await.expect("the client takes operations");
                client.flush().await.expect("the server is there");
                let _gone = ready.send(());
                loop {
                    tokio::select! {
                        question = asked.recv() => match question {
                            Some(question) => publish(&client, &inbox, question).await,
                            None => return,
                        },
                        Some(message) = answers.next() => writing.note(&message),
                    }
                }
            });
        });
        is_ready.recv_timeout(PATIENCE).expect("the caller is connected");
        Self { questions, book }
    }

    /// Asks these devices in turn for a property until `is_over`, the next one after the answer, or a while: many questions are
    /// open at a time while sessions move. The numbers of the questions.
    pub(crate) fn ask_in_turn(&self, devices: &[Registration], is_over: &AtomicBool) -> Vec<usize> {
        let mut asked = Vec::new();
        for device in devices.iter().cycle() {
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            let number = self.ask(&read_of(&device.id), READ);
            drop(self.answer_within(number, Duration::from_millis(20)));
            asked.push(number);
        }
        asked
    }

    /// Asks; the number of the question.
    pub(crate) fn ask(&self, subject: &str, body: &str) -> usize {
        let number = {
            let mut pages = self.book.lock();
            pages.push(Page { asked: Instant::now(), answers: Vec::new() });
            pages.len() - 1
        };
        self.send(Question { number, subject: subject.to_owned(), reply: Some(String::new()), payload: owned(body) });
        number
    }

    /// Publishes a command that has that reply subject, or none.
    pub(crate) fn publish(&self, subject: &str, reply: Option<&str>, body: &str) {
        let reply = reply.map(str::to_owned);
        self.send(Question { number: usize::MAX, subject: subject.to_owned(), reply, payload: owned(body) });
    }

    /// Asks and waits for the first answer.
    ///
    /// # Panics
    /// When none comes in time.
    pub(crate) fn request(&self, subject: &str, body: &str) -> Answer {
        let number = self.ask(subject, body);
        self.answer(number)
    }

    /// Waits for the first answer to that question.
    ///
    /// # Panics
    /// When none comes in time.
    pub(crate) fn answer(&self, number: usize) -> Answer {
        self.wait(&[number]);
        self.book.lock()[number].answers[0].clone()
    }

    /// As [`Caller::answer`], `None` when none comes in that time.
    pub(crate) fn answer_within(&self, number: usize, patience: Duration) -> Option<Answer> {
        let is_open = |pages: &mut Vec<Page>| pages[number].answers.is_empty();
        let waited = self.book.answered.wait_timeout_while(self.book.lock(), patience, is_open);
        let (pages, _) = waited.unwrap_or_else(PoisonError::into_inner);
        pages[number].answers.first().cloned()
    }

    /// Whether an answer to that question has come.
    pub(crate) fn is_answered(&self, number: usize) -> bool {
        !self.book.lock()[number].answers.is_empty()
    }

    /// Waits until each of these has an answer.
    ///
    /// # Panics
    /// When one has none in time.
    pub(crate) fn wait(&self, numbers: &[usize]) {
        let is_open = |pages: &mut Vec<Page>| numbers.iter().any(|&number| pages[number].answers.is_empty());
        let waited = self.book.answered.wait_timeout_while(self.book.lock(), PATIENCE, is_open);
        let (pages, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        let open = numbers.iter().filter(|&&number| pages[number].answers.is_empty()).count();
        assert!(!waited.timed_out(), "{open} of {} questions have no answer", numbers.len());
    }

    /// Waits for the answers to these questions, and shows that each has exactly one.
    ///
    /// # Panics
    /// When one has none in time, or more than one.
    pub(crate) fn answers(&self, numbers: &[usize]) -> Vec<Answer> {
        self.wait(numbers);
        let pages = self.book.lock();
        let only = |&number: &usize| {
            let answers = &pages[number].answers;
            assert_eq!(answers.len(), 1, "question {number}: {answers:?}");
            answers[0].clone()
        };
        numbers.iter().map(only).collect()
    }

    /// How many answers have come to each question so far.
    pub(crate) fn counts(&self) -> Vec<usize> {
        self.book.lock().iter().map(|page| page.answers.len()).collect()
    }

    fn send(&self, question: Question) {
        self.questions.send(question).expect("the caller's thread lives as long as the caller");
    }
}

impl Book {
    fn lock(&self) -> MutexGuard<'_, Vec<Page>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, message: &async_nats::Message) {
        let number = message.subject.rsplit('.').next().and_then(|number| number.parse::<usize>().ok());
        let error_code = message.headers.as_ref().and_then(|headers| headers.get("Nats-Service-Error-Code"));
        let envelope = match message.status {
            Some(StatusCode::NO_RESPONDERS) => Value::Null,
            _ => serde_json::from_slice(&message.payload).unwrap_or_else(|error| panic!("{error}: {message:?}")),
        };
        let mut pages = self.lock();
        let page = number.and_then(|number| pages.get_mut(number)).expect("answers are to questions");
        let error_code = error_code.map(|code| code.as_str().to_owned());
        page.answers.push(Answer { envelope, error_code, after: page.asked.elapsed() });
        self.answered.notify_all();
    }
}

async fn publish(client: &Client, inbox: &str, question: Question) {
    let Question { number, subject, reply, payload } = question;
    let sent = match reply {
        Some(reply) if reply.is_empty() => {
            client.publish_with_reply(subject, format!("{inbox}.{number}"), payload).await
        }
        Some(reply) => client.publish_with_reply(subject, reply, payload).await,
        None => client.publish(subject, payload).await,
    };
    sent.expect("the client takes operations");
}

fn owned(body: &str) -> Bytes {
    Bytes::copy_from_slice(body.as_bytes())
}

/// Options of a client of these servers: the library sends no user that stands in an address.
pub(crate) fn options(urls: &[String]) -> ConnectOptions {
    let user = urls.first().and_then(|url| url.strip_prefix("nats://")?.split_once('@')?.0.split_once(':'));
    let options = match user {
        Some((user, password)) => ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned()),
        None => ConnectOptions::new(),
    };
    // The library waits five and ten seconds.
    options.connection_timeout(PATIENCE).request_timeout(Some(PATIENCE))
}

/// A client of this server.
///
/// # Panics
/// When it does not answer in time.
pub(crate) async fn client(url: &str) -> Client {
    options(&[url.to_owned()]).connect(url).await.expect("the server is there")
}

/// JetStream as this client reaches it.
pub(crate) fn jetstream(client: Client) -> jetstream::Context {
    let mut context = jetstream::new(client);
    context.set_timeout(PATIENCE);
    context
}

/// Subject of a command that reads properties of a device of product1.
pub(crate) fn read_of(device: &str) -> String {
    format!("jetlinks.command.product1.{device}.properties.read")
}

/// How often each code came, with `reply` for answers of devices.
pub(crate) fn count_codes(answers: &[Answer]) -> HashMap<String, usize> {
    answers.iter().fold(HashMap::new(), |mut counts, answer| {
        let code = if answer.is_of_device() { "reply" } else { answer.code() };
        *counts.entry(code.to_owned()).or_default() += 1;
        counts
    })
}

/// The value below which that share of the durations lies.
pub(crate) fn quantile(durations: &mut [Duration], share: f64) -> Duration {
    durations.sort_unstable();
    let last = durations.len() - 1;
    durations[((last as f64 * share).round() as usize).min(last)]
}
