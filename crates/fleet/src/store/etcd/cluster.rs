//! The members of a cluster as one: whichever answers, within a deadline.
//!
//! A request is tried at one member after the other until one answers, or the deadline has passed; so it may reach the
//! cluster more than once, and whoever asks has to make that harmless. An answer of another cluster than the first one
//! (somebody put an empty or a restored one in its place) is no answer.

use std::{
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Bytes;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};

use super::{
    member::{Endpoint, Member, Tls},
    protocol::{Fault, Headed},
};
use crate::store::Trouble;

/// For how long one member may take for an answer.
const ATTEMPT_DEADLINE: Duration = Duration::from_secs(4);
/// For how long a request is tried at all: an election takes a second or two.
const DEADLINE: Duration = Duration::from_secs(12);
/// Between two rounds of all members.
const PAUSE: Duration = Duration::from_millis(150);
/// Bytes of an answer at most: many times the largest page that is asked for.
const ANSWER_BYTES_MAX: usize = 128 << 20;
/// Connections that are kept for later.
const IDLE_MAX: usize = 4;

/// Statuses of gRPC after which another member, or the same one later, may answer.
const PASSING: [u32; 3] = [UNKNOWN, DEADLINE_EXCEEDED, UNAVAILABLE];
const UNKNOWN: u32 = 2;
const DEADLINE_EXCEEDED: u32 = 4;
const UNAVAILABLE: u32 = 14;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum CallError {
    /// The cluster says no. `doubted`: after an attempt of which nobody knows what it did.
    Refused { message: String, doubted: bool },
    /// No member has answered in time, or it was not understood.
    Unanswered(Trouble),
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused { message, doubted: _ } => Self::Refused(message),
            CallError::Unanswered(trouble) => trouble,
        }
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer<T> {
    pub(super) body: T,
    /// Whether an earlier attempt may have been carried out as well.
    pub(super) doubted: bool,
}

/// What became of one attempt.
enum Attempt<T> {
    Answered(T),
    Refused(String),
    /// It has not reached the member.
    Unsent(String),
    /// It may have.
    Doubtful(String),
    OtherCluster,
}

/// The members, and the connections to them that are not in use.
#[derive(Debug)]
pub(super) struct Cluster {
    endpoints: Vec<Endpoint>,
    tls: Option<Tls>,
    /// The one that answered last.
    current: AtomicUsize,
    idle: Mutex<Vec<(usize, Member)>>,
    id: OnceLock<u64>,
}

impl Cluster {
    /// Nothing is connected yet.
    pub(super) fn new(endpoints: Vec<Endpoint>, tls: Option<Tls>) -> Self {
        let (current, idle) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        Self { endpoints, tls, current, idle, id: OnceLock::new() }
    }

    /// A new connection to an endpoint, by its number.
    pub(super) async fn connect(&self, number: usize) -> Result<Member, String> {
        Member::connect(&self.endpoints[number % self.endpoints.len()], self.tls.as_ref()).await
    }

    /// Whether an answer comes from the cluster that answered first.
    pub(super) fn is_same(&self, answer: &impl Headed) -> bool {
        match answer.header().cluster_id {
            // The last answer of a watch has none.
            0 => true,
            id => *self.id.get_or_init(|| id) == id,
        }
    }

    /// Asks until a member answers, for [`DEADLINE`] at most.
    pub(super) async fn call<T: DeserializeOwned + Headed>(
        &self,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<Answer<T>, CallError> {
        let body = Bytes::from(body.to_string());
        let end = Instant::now() + DEADLINE;
        let mut doubted = false;
        let mut tried = 0;
        loop {
            let number = self.current.load(Ordering::Relaxed);
            let left = end.saturating_duration_since(Instant::now()).min(ATTEMPT_DEADLINE);
            let why = match timeout(left, self.attempt(number, path, body.clone())).await {
                Ok(Attempt::Answered(body)) => return Ok(Answer { body, doubted }),
                Ok(Attempt::Refused(message)) => {
                    return Err(CallError::Refused { message, doubted });
                }
                Ok(Attempt::OtherCluster) => {
                    return Err(CallError::Unanswered(Trouble::OtherCluster));
                }
                Ok(Attempt::Unsent(why)) => why,
                Ok(Attempt::Doubtful(why)) => {
                    doubted = true;
                    why
                }
                Err(_late) => {
                    doubted = true;
                    format!("{}: no answer in {left:?}", self.endpoints[number])
                }
            };
            let next = (number + 1) % self.endpoints.len();
            // Another request may have moved on already.
            let _moved =
                self.current.compare_exchange(number, next, Ordering::Relaxed, Ordering::Relaxed);
            tried += 1;
            if tried % self.endpoints.len() == 0 {
                sleep(PAUSE).await;
            }
            if Instant::now() >= end {
                return Err(CallError::Unanswered(Trouble::Unreachable(why)));
            }
        }
    }

    async fn attempt<T: DeserializeOwned + Headed>(
        &self,
        number: usize,
        path: &str,
        body: Bytes,
    ) -> Attempt<T> {
        let mut member = match self.idle(number) {
            Some(member) => member,
            None => match self.connect(number).await {
                Ok(member) => member,
                Err(why) => return Attempt::Unsent(why),
            },
        };
        let endpoint = &self.endpoints[number];
        let doubtful = |why: String| Attempt::Doubtful(format!("{endpoint}: {why}"));
        let answer = match member.post(path, body).await {
            Ok(answer) => answer,
            Err(why) => return doubtful(why),
        };
        let good = answer.status().is_success();
        let text = match Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await {
            Ok(text) => text.to_bytes(),
            Err(error) => return doubtful(error.to_string()),
        };
        if good {
            // The keepalive of a lease is a stream of one line.
            match serde_json::from_slice::<T>(text.trim_ascii()) {
                Ok(answer) if self.is_same(&answer) => {
                    self.keep(number, member);
                    Attempt::Answered(answer)
                }
                Ok(_other) => Attempt::OtherCluster,
                Err(error) => doubtful(format!("its answer is not understood: {error}")),
            }
        } else {
            self.keep(number, member);
            match serde_json::from_slice::<Fault>(&text) {
                Ok(fault) if PASSING.contains(&fault.code) => doubtful(fault.message),
                Ok(fault) => Attempt::Refused(fault.message),
                Err(error) => doubtful(format!("its answer is not understood: {error}")),
            }
        }
    }

    fn idle(&self, number: usize) -> Option<Member> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let place = idle.iter().position(|(of, member)| *of == number && member.is_open())?;
        Some(idle.swap_remove(place).1)
    }

    fn keep(&self, number: usize, member: Member) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(_, member)| member.is_open());
        if idle.len() < IDLE_MAX {
            idle.push((number, member));
        }
    }
}
