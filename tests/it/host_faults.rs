//! The module host over a real SoftHSM2 token behind a module that hangs, dies and lies.

mod deaths;
mod lies;
mod opening;
mod slow;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lockstep::keystore::host::handle::{HostConfig, HostHandle, HostLimits, HostStatus};
use lockstep::model::capabilities::Strategy;
use lockstep::model::desired::ObjectPlan;
use lockstep::model::ids::{Digest, Epoch, KeystoreId};
use lockstep::model::job::{
    Inventory, Ran, RunJob, Slice, TokenAnswer, TokenFailure, TokenJob, TokenOutcome,
};
use lockstep::model::key::{Algorithm, DeactivatedUsage, KeySpec, Usage, UsageSet};
use lockstep::model::keystore::Marker;
use lockstep::model::observed::{Fingerprint, FingerprintMethod, Found, ObjectClass};
use lockstep::model::step::Step;
use uuid::Uuid;

use crate::support::example;
use crate::support::fault::{self, Faults};
use crate::support::pin::TestPin;
use crate::support::softhsm::{SoftHsm, Token};

/// Long enough that only a fault reaches it.
pub(crate) const LONG: Duration = Duration::from_secs(60);
/// For calls that hang: they reach every deadline.
pub(crate) const SHORT: Duration = Duration::from_millis(300);

pub(crate) const MARKER: Marker = Marker {
    keystore: KeystoreId::from_uuid(Uuid::from_u128(7)),
    epoch: Epoch(1),
};

/// A bound token with one key, and a host whose module can be told to do wrong.
pub(crate) struct Stage {
    _hsm: SoftHsm,
    pub(crate) token: Token,
    pub(crate) faults: Faults,
    pub(crate) config: HostConfig,
    pub(crate) host: HostHandle,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut HostConfig)) -> Self {
        let stage = Self::closed(change);
        let bound = stage.perform(TokenJob::Bind(MARKER)).await;
        assert_eq!(bound, TokenOutcome::Done(TokenAnswer::Bound));
        assert_eq!(stage.markers().await.unwrap(), [MARKER]);
        stage
    }

    /// A host that was not started yet. Called inside a runtime.
    pub(crate) fn closed(change: impl FnOnce(&mut HostConfig)) -> Self {
        let hsm = SoftHsm::new();
        let token = hsm.token("home");
        let faults = Faults::new(hsm.dir(), &token.module);
        let mut env = BTreeMap::from([
            ("LOCKSTEP_LOG".to_owned(), "off".to_owned()),
            ("SOFTHSM2_CONF".to_owned(), token.conf.display().to_string()),
        ]);
        env.extend(faults.env());
        let mut config = HostConfig {
            program: example("host_fixture"),
            args: Vec::new(),
            env,
            module: fault::module(),
            label: token.label.clone(),
            serial: token.serial.clone(),
            init_args: None,
            pin: Arc::new(TestPin::of_file(&token.pin_file)),
            limits: HostLimits {
                pause_first: Duration::from_millis(20),
                pause_max: Duration::from_millis(100),
                write_grace: LONG,
                ..HostLimits::default()
            },
        };
        change(&mut config);
        Self {
            _hsm: hsm,
            token,
            faults,
            host: HostHandle::start(config.clone()),
            config,
        }
    }

    pub(crate) async fn perform(&self, job: TokenJob) -> TokenOutcome {
        self.host.perform(job, LONG).await
    }

    pub(crate) async fn markers(&self) -> Result<Vec<Marker>, TokenFailure> {
        match self.perform(TokenJob::Identify).await {
            TokenOutcome::Done(TokenAnswer::Identity(identity)) => Ok(identity.markers),
            TokenOutcome::Failed(failure) => Err(failure),
            other @ (TokenOutcome::Done(_) | TokenOutcome::Unknown { .. }) => panic!("{other:?}"),
        }
    }

    /// Somebody else makes a key, with all usages on.
    pub(crate) fn make_key(&self, label: &str) {
        let made = ["--keygen", "--key-type", "AES:32", "--id", "aa", "--label"];
        let made = self.token.pkcs11_tool(&[&made[..], &[label]].concat());
        assert!(made.status.success(), "{made:?}");
    }

    pub(crate) async fn look(&self) -> Found {
        found(self.perform(TokenJob::Inspect(plan())).await)
    }

    /// A whole scan, however many slices it takes.
    pub(crate) async fn scan(&self) -> Inventory {
        let mut all = Slice::default();
        let mut job = TokenJob::Scan;
        loop {
            let outcome = self.perform(job).await;
            job = TokenJob::ScanOn;
            if let TokenOutcome::Done(TokenAnswer::Inventory(Inventory { identity, rest })) =
                outcome
            {
                all.add(rest);
                return Inventory {
                    identity,
                    rest: all,
                };
            }
            let TokenOutcome::Done(TokenAnswer::Slice(slice)) = outcome else {
                panic!("{outcome:?}");
            };
            all.add(slice);
        }
    }

    pub(crate) async fn run(&self, steps: &[Step]) -> Ran {
        ran(self.perform(run(steps)).await)
    }

    pub(crate) async fn wait_for(&self, wanted: impl FnMut(&HostStatus) -> bool) -> HostStatus {
        let mut watch = self.host.watch();
        let reached = tokio::time::timeout(LONG, watch.wait_for(wanted)).await;
        reached.expect("in time").expect("a host").clone()
    }

    /// Peak memory of the running host, in KiB.
    pub(crate) fn peak(&self) -> u64 {
        let pid = self.host.status().pid().unwrap();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let words = line.unwrap().split_whitespace().nth(1);
        words.unwrap().parse().unwrap()
    }
}

/// What `pkcs11-tool` gives a secret key.
pub(crate) const MADE_WITH: [Usage; 6] = [
    Usage::Encrypt,
    Usage::Decrypt,
    Usage::Sign,
    Usage::Verify,
    Usage::Wrap,
    Usage::Unwrap,
];

pub(crate) fn plan() -> ObjectPlan {
    ObjectPlan {
        cka_id: vec![0xaa],
        label: "made".to_owned(),
        spec: KeySpec::new(Algorithm::Aes, 256).unwrap(),
        usage: UsageSet::of(&MADE_WITH),
        deactivated_usage: DeactivatedUsage::None,
        salt: vec![1; 32],
        strategy: Strategy::Flags,
    }
}

pub(crate) fn run(steps: &[Step]) -> TokenJob {
    TokenJob::Run(Box::new(RunJob {
        object: plan(),
        fingerprint: Fingerprint {
            method: FingerprintMethod::DigestKey,
            value: Digest([0; 32]),
        },
        steps: steps.to_vec(),
        envelope: None,
        hints: Vec::new(),
    }))
}

pub(crate) const OFF: Step = Step::SetUsage {
    class: ObjectClass::Secret,
    usage: UsageSet::NONE,
};
pub(crate) const GONE: Step = Step::Destroy {
    class: ObjectClass::Secret,
};

pub(crate) fn found(outcome: TokenOutcome) -> Found {
    let TokenOutcome::Done(TokenAnswer::Found(found)) = outcome else {
        panic!("{outcome:?}");
    };
    found
}

pub(crate) fn ran(outcome: TokenOutcome) -> Ran {
    let TokenOutcome::Done(TokenAnswer::Ran(ran)) = outcome else {
        panic!("{outcome:?}");
    };
    *ran
}

pub(crate) fn why(outcome: TokenOutcome) -> String {
    let TokenOutcome::Unknown { why } = outcome else {
        panic!("{outcome:?}");
    };
    why
}

pub(crate) fn failed(outcome: TokenOutcome) -> TokenFailure {
    let TokenOutcome::Failed(failure) = outcome else {
        panic!("{outcome:?}");
    };
    failure
}

pub(crate) fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// No circuit opens.
pub(crate) fn many(config: &mut HostConfig) {
    config.limits.failures_max = 1000;
}
