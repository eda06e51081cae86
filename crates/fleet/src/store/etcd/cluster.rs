//! The members of a cluster as one: whichever answers, within a deadline.
//!
//! A request is tried at one member after the other until one answers, or the deadline has passed; so it may reach the
//! cluster more than once, and whoever asks has to make that harmless. An answer of another cluster than the first one
//! (somebody put an empty or a restored one in its place) is no answer.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Bytes, Incoming};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::{
    login::Login,
    member::{Endpoint, Member, Tls},
    protocol::{Fault, Headed, Known},
};
use crate::store::{Trouble, told};

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
const UNAUTHENTICATED: u32 = 16;

/// A member does not know a token any more, or it is of a time when users had other rights: nothing was carried out.
fn is_forgotten(fault: &Fault) -> bool {
    fault.code == UNAUTHENTICATED || fault.message.contains("revision of auth store is old")
}

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

/// What became of an attempt that was not answered.
enum Failed {
    Refused(String),
    /// Nothing has come of it: it has not reached the member, or was no user's.
    Unsent(String),
    /// It may have been carried out.
    Doubtful(String),
    OtherCluster,
}

/// The members, and the connections to them that are not in use.
#[derive(Debug)]
pub(super) struct Cluster {
    endpoints: Vec<Endpoint>,
    tls: Option<Tls>,
    login: Option<Login>,
    /// What the user is known by, for as long as the cluster knows it.
    token: Mutex<Option<Arc<str>>>,
    /// The one that answered last.
    current: AtomicUsize,
    idle: Mutex<Vec<(usize, Member)>>,
    id: OnceLock<u64>,
}

impl Cluster {
    /// Nothing is connected yet.
    pub(super) fn new(endpoints: Vec<Endpoint>, tls: Option<Tls>, login: Option<Login>) -> Self {
        let (current, idle) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let token = Mutex::new(None);
        Self { endpoints, tls, login, token, current, idle, id: OnceLock::new() }
    }

    async fn connect(&self, number: usize) -> Result<Member, String> {
        Member::connect(&self.endpoints[number % self.endpoints.len()], self.tls.as_ref()).await
    }

    /// Asks for something that does not end, at an endpoint by its number, on a connection of its own.
    pub(super) async fn begin(
        &self,
        number: usize,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<(Member, Incoming), String> {
        let mut member = self.connect(number).await?;
        let number = number % self.endpoints.len();
        let token = self.known_by(number, &mut member).await.map_err(|failed| match failed {
            Failed::Refused(why) | Failed::Unsent(why) | Failed::Doubtful(why) => why,
            Failed::OtherCluster => Trouble::OtherCluster.to_string(),
        })?;
        let body = Bytes::from(body.to_string());
        let answer = member.post(path, body, token.as_deref()).await?;
        if answer.status().is_success() {
            Ok((member, answer.into_body()))
        } else {
            self.forget();
            Err(answer.status().to_string())
        }
    }

    /// The cluster may not know the user any more: it is asked for a token again.
    pub(super) fn forget(&self) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What the user is known by; nothing where there is none.
    async fn known_by(
        &self,
        number: usize,
        member: &mut Member,
    ) -> Result<Option<Arc<str>>, Failed> {
        let Some(login) = &self.login else { return Ok(None) };
        let known = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if known.is_some() {
            return Ok(known);
        }
        let secret = login.secret().map_err(|error| Failed::Refused(told(&error)))?;
        let asked = json!({ "name": login.user, "password": secret }).to_string();
        let path = "/v3/auth/authenticate";
        let known: Known = self.exchange(number, member, path, asked.into(), None).await?;
        let token = Some(Arc::from(known.token));
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&token);
        Ok(token)
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
                Ok(Ok(body)) => return Ok(Answer { body, doubted }),
                Ok(Err(Failed::Refused(message))) => {
                    return Err(CallError::Refused { message, doubted });
                }
                Ok(Err(Failed::OtherCluster)) => {
                    return Err(CallError::Unanswered(Trouble::OtherCluster));
                }
                Ok(Err(Failed::Unsent(why))) => why,
                Ok(Err(Failed::Doubtful(why))) => {
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
    ) -> Result<T, Failed> {
        let mut member = match self.idle(number) {
            Some(member) => member,
            None => self.connect(number).await.map_err(Failed::Unsent)?,
        };
        let token = self.known_by(number, &mut member).await?;
        let answer = self.exchange(number, &mut member, path, body, token.as_deref()).await;
        if let Ok(_) | Err(Failed::Refused(_) | Failed::Unsent(_)) = &answer {
            self.keep(number, member);
        }
        answer
    }

    /// One request and its answer.
    async fn exchange<T: DeserializeOwned + Headed>(
        &self,
        number: usize,
        member: &mut Member,
        path: &str,
        body: Bytes,
        token: Option<&str>,
    ) -> Result<T, Failed> {
        let endpoint = &self.endpoints[number];
        let doubtful = |why: String| Failed::Doubtful(format!("{endpoint}: {why}"));
        let answer = member.post(path, body, token).await.map_err(doubtful)?;
        let good = answer.status().is_success();
        let text = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let text = text.map_err(|error| doubtful(error.to_string()))?.to_bytes();
        let odd = |error| doubtful(format!("its answer is not understood: {error}"));
        if good {
            // The keepalive of a lease is a stream of one line.
            let answer = serde_json::from_slice::<T>(text.trim_ascii()).map_err(odd)?;
            return if self.is_same(&answer) { Ok(answer) } else { Err(Failed::OtherCluster) };
        }
        let fault = serde_json::from_slice::<Fault>(&text).map_err(odd)?;
        if token.is_some() && is_forgotten(&fault) {
            self.forget();
            return Err(Failed::Unsent(format!("{endpoint}: {}", fault.message)));
        }
        Err(if PASSING.contains(&fault.code) {
            doubtful(fault.message)
        } else {
            Failed::Refused(fault.message)
        })
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
