//! Who is signed in: in memory only, so a restart signs everybody out.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};

use crate::clock::Monotonic;
use crate::coordinator::ops::access::Principal;
use crate::model::canonical::sha256;
use crate::model::ids::Digest;
use crate::model::text::hex;

/// A session that nobody uses ends after this.
pub const IDLE_MAX: Duration = Duration::from_secs(15 * 60);

/// Every session ends after this.
pub const AGE_MAX: Duration = Duration::from_secs(8 * 60 * 60);

/// Most sessions; one more ends the one that was not used for longest.
pub const SESSIONS_MAX: usize = 200;

/// Somebody who signed in.
#[derive(Debug, Clone)]
pub struct Session {
    /// Who.
    pub principal: Principal,
    began: Monotonic,
    used: Monotonic,
}

impl Session {
    fn is_over(&self) -> bool {
        self.began.elapsed() >= AGE_MAX || self.used.elapsed() >= IDLE_MAX
    }
}

/// The sessions there are, by the SHA-256 of their ids.
#[derive(Debug, Default)]
pub struct Sessions {
    table: Mutex<BTreeMap<Digest, Session>>,
}

impl Sessions {
    /// Begins a session and gives its id, 256 random bits in hexadecimal; nothing where the system has no random bits.
    #[must_use]
    pub fn begin(&self, principal: Principal) -> Option<String> {
        let mut id = [0_u8; 32];
        SystemRandom::new().fill(&mut id).ok()?;
        let id = hex(&id);
        let now = Monotonic::now();
        let session = Session {
            principal,
            began: now,
            used: now,
        };
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.retain(|_id, session| !session.is_over());
        while table.len() >= SESSIONS_MAX {
            let oldest = table.iter().min_by_key(|(_id, session)| session.used);
            let Some(oldest) = oldest.map(|(id, _session)| *id) else {
                break;
            };
            table.remove(&oldest);
        }
        table.insert(sha256(id.as_bytes()), session);
        Some(id)
    }

    /// The session of that id, if it is not over. With `is_use` its idle time begins anew.
    #[must_use]
    pub fn find(&self, id: &str, is_use: bool) -> Option<Session> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = sha256(id.as_bytes());
        let session = table.get_mut(&digest)?;
        if session.is_over() {
            table.remove(&digest);
            return None;
        }
        if is_use {
            session.used = Monotonic::now();
        }
        Some(session.clone())
    }

    /// Ends a session.
    pub fn end(&self, id: &str) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.remove(&sha256(id.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use crate::coordinator::ops::access::{Principal, Rights};
    use crate::coordinator::ops::sessions::{SESSIONS_MAX, Sessions};

    fn somebody(name: &str) -> Principal {
        Principal {
            name: name.to_owned(),
            rights: Rights::All,
        }
    }

    #[test]
    fn sessions_begin_and_end() {
        let sessions = Sessions::default();
        let first = sessions.begin(somebody("a")).unwrap();
        let second = sessions.begin(somebody("b")).unwrap();
        assert_ne!(first, second);
        assert_eq!(sessions.find(&first, true).unwrap().principal.name, "a");
        sessions.end(&first);
        assert!(sessions.find(&first, true).is_none());
        assert!(sessions.find(&second, false).is_some());
        assert!(sessions.find("", true).is_none());
    }

    #[test]
    fn there_is_a_bound_and_the_least_used_goes() {
        let sessions = Sessions::default();
        let first = sessions.begin(somebody("first")).unwrap();
        let second = sessions.begin(somebody("second")).unwrap();
        assert!(sessions.find(&first, true).is_some());
        // A look that is no use does not save it.
        assert!(sessions.find(&second, false).is_some());
        for _ in 2..=SESSIONS_MAX {
            assert!(sessions.begin(somebody("more")).is_some());
        }
        assert!(sessions.find(&first, true).is_some());
        assert!(sessions.find(&second, true).is_none());
    }
}
