//! Requests to the API of JetStream.
//!
//! They have a subscription of their own for the answers. That of the client's own requests is made once a connection:
//! where the server takes it away, with a right, every later request would stay unanswered.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use async_nats::{Message, StatusCode};
use futures_util::StreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::queue::nats::connection::{Client, Connection, IfRefused, Listener};

/// A request that is not answered by then counts as unanswered.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The API as one connection reaches it.
pub(crate) struct Api<C: Client = async_nats::Client> {
    client: C,
    inbox: String,
    asked: Cell<u64>,
    /// Requests without an answer, by number. Whoever asks waits for the answer, so there are few.
    waiting: Rc<RefCell<HashMap<u64, oneshot::Sender<Message>>>>,
    taking: JoinHandle<()>,
    is_refused: Box<dyn Fn() -> bool>,
}

/// Why there is no answer that can be read.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// No server here offers it.
    NoResponders,
    /// Anything else; the text says what.
    Failed(String),
}

impl<C: Client> Drop for Api<C> {
    fn drop(&mut self) {
        self.taking.abort();
    }
}

impl<C: Client> Api<C> {
    /// Listens for answers, on the calling thread. `None` when the client has ended.
    pub(crate) async fn start(connection: &Connection<C>) -> Option<Self> {
        let client = connection.client.clone();
        let inbox = client.new_inbox();
        let answers = connection.control.listen(format!("{inbox}.*"), IfRefused::Stay).await?;
        let (waiting, is_refused) = (Rc::default(), Box::new(answers.refusal()));
        let taking = tokio::task::spawn_local(take(answers, Rc::clone(&waiting)));
        Some(Self { client, inbox, asked: Cell::new(0), waiting, taking, is_refused })
    }

    /// The connection.
    pub(crate) fn client(&self) -> &C {
        &self.client
    }

    /// Subject of that request in that domain, such as `$JS.API.STREAM.NAMES`; no domain is that of the server itself.
    pub(crate) fn subject(domain: Option<&str>, name: &str) -> String {
        domain.map_or_else(|| format!("$JS.API.{name}"), |domain| format!("$JS.{domain}.API.{name}"))
    }

    /// Asks in that domain, and reads the answer.
    ///
    /// # Errors
    /// [`ApiError`] where no answer came in time, or one that is not of this type.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        domain: Option<&str>,
        name: &str,
        question: &impl Serialize,
    ) -> Result<T, ApiError> {
        let payload = serde_json::to_vec(question).map_err(|error| ApiError::Failed(error.to_string()))?;
        if (self.is_refused)() {
            return Err(ApiError::Failed(format!("the right to subscribe {}.* is missing", self.inbox)));
        }
        let number = self.asked.get() + 1;
        self.asked.set(number);
        let (sender, answer) = oneshot::channel();
        {
            let mut waiting = self.waiting.borrow_mut();
            waiting.retain(|_, sender| !sender.is_closed());
            waiting.insert(number, sender);
        }
        let reply = format!("{}.{number}", self.inbox);
        let asked = async {
            let sent = self.client.publish(Self::subject(domain, name), Some(reply), payload.into()).await;
            sent.map_err(ApiError::Failed)?;
            answer.await.map_err(|_| ApiError::Failed("the client has ended".to_owned()))
        };
        let answer = match tokio::time::timeout(TIMEOUT, asked).await {
            Ok(answer) => answer?,
            Err(_) => return Err(ApiError::Failed("request timed out".to_owned())),
        };
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(ApiError::NoResponders);
        }
        serde_json::from_slice(&answer.payload).map_err(|error| ApiError::Failed(error.to_string()))
    }
}

async fn take<C: Client>(mut answers: Listener<C>, waiting: Rc<RefCell<HashMap<u64, oneshot::Sender<Message>>>>) {
    while let Some(answer) = answers.next().await {
        let number = answer.subject.rsplit('.').next().and_then(|number| number.parse().ok());
        let sender = number.and_then(|number: u64| waiting.borrow_mut().remove(&number));
        if let Some(sender) = sender {
            // Whoever asked has given up.
            let _gone = sender.send(answer);
        }
    }
}
