//! The cases of the matrix: what is asked for, which process meets with what, and where.

use std::fmt;

use lockstep::failpoint::Point;

use crate::support::kinds::Kind;

/// What people ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    CreateSecret,
    CreatePair,
    Activate,
    Deactivate,
    Destroy,
    Transfer,
    Enrol,
}

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    Coordinator,
    /// The agent of the internal keystore.
    Home,
    /// The agent of the target.
    Away,
    /// The agent that joins.
    New,
}

/// Where it strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    At(Point),
    /// Before the n-th call of that function has its effect.
    Before(&'static str, u32),
    /// When it has.
    After(&'static str, u32),
}

/// What happens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The process ends.
    Abort,
    /// It stops, for less than anybody notices.
    Stop,
    /// It stops until the other side has given it up.
    LongStop,
    /// What it is about to do fails.
    Fail,
    /// The module host is in the call when its agent is killed.
    Orphan,
}

/// One case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) kind: Kind,
    pub(crate) operation: Operation,
    pub(crate) party: Party,
    pub(crate) place: Place,
    pub(crate) mode: Mode,
}

impl Operation {
    pub(crate) const ALL: [Self; 7] = [
        Self::CreateSecret,
        Self::CreatePair,
        Self::Activate,
        Self::Deactivate,
        Self::Destroy,
        Self::Transfer,
        Self::Enrol,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::CreateSecret => "create-secret",
            Self::CreatePair => "create-pair",
            Self::Activate => "activate",
            Self::Deactivate => "deactivate",
            Self::Destroy => "destroy",
            Self::Transfer => "transfer",
            Self::Enrol => "enrol",
        }
    }

    /// Which points each process comes by.
    fn way(self) -> Vec<(Party, &'static [Point])> {
        const COMMIT: &[Point] = &[Point::BeforeCommit, Point::AfterCommit];
        const INTENT: &[Point] = &[
            Point::BeforeCommit,
            Point::AfterCommit,
            Point::Sent,
            Point::ReportReceived,
            Point::ReportStored,
        ];
        const CALL: &[Point] = &[
            Point::Received,
            Point::JobReceived,
            Point::JobDone,
            Point::ReadBack,
            Point::BeforeReport,
            Point::AfterReport,
        ];
        const CARRY: &[Point] = &[
            Point::Received,
            Point::Journaling,
            Point::Journaled,
            Point::JobReceived,
            Point::JobDone,
            Point::ReadBack,
            Point::Done,
            Point::BeforeReport,
            Point::AfterReport,
        ];
        const JOIN: &[Point] = &[
            Point::Received,
            Point::Journaled,
            Point::JobReceived,
            Point::JobDone,
            Point::Done,
        ];
        match self {
            Self::CreateSecret | Self::CreatePair => {
                vec![(Party::Coordinator, COMMIT), (Party::Home, CALL)]
            }
            Self::Activate | Self::Deactivate | Self::Destroy => {
                vec![(Party::Coordinator, INTENT), (Party::Away, CARRY)]
            }
            Self::Transfer => vec![
                (Party::Coordinator, INTENT),
                (Party::Home, CALL),
                (Party::Away, CARRY),
            ],
            Self::Enrol => vec![(Party::Coordinator, COMMIT), (Party::New, JOIN)],
        }
    }

    /// Calls that change a token or make an object: each agent's, and how many. A test sees that they are these.
    pub(crate) const fn calls(self) -> &'static [(Party, &'static str, u32)] {
        const COPY: &str = "C_CopyObject";
        const CREATE: &str = "C_CreateObject";
        const DESTROY: &str = "C_DestroyObject";
        const GENERATE: &str = "C_GenerateKey";
        const SET: &str = "C_SetAttributeValue";
        const UNWRAP: &str = "C_UnwrapKey";
        const INSTALL: [(Party, &str, u32); 5] = [
            (Party::Away, UNWRAP, 2),
            (Party::Away, CREATE, 1),
            (Party::Away, COPY, 1),
            (Party::Away, SET, 2),
            (Party::Away, DESTROY, 1),
        ];
        match self {
            Self::CreateSecret => &[
                (Party::Home, GENERATE, 1),
                (Party::Home, UNWRAP, 1),
                (Party::Home, DESTROY, 1),
            ],
            Self::CreatePair => &[
                (Party::Home, "C_GenerateKeyPair", 1),
                (Party::Home, UNWRAP, 1),
                (Party::Home, COPY, 2),
                (Party::Home, DESTROY, 1),
            ],
            Self::Activate => &INSTALL,
            Self::Transfer => &[
                (Party::Home, GENERATE, 1),
                (Party::Home, UNWRAP, 1),
                (Party::Home, CREATE, 1),
                (Party::Home, COPY, 1),
                (Party::Home, DESTROY, 2),
                INSTALL[0],
                INSTALL[1],
                INSTALL[2],
                INSTALL[3],
                INSTALL[4],
            ],
            Self::Deactivate => &[(Party::Away, COPY, 1), (Party::Away, SET, 2)],
            Self::Destroy => &[(Party::Away, COPY, 1), (Party::Away, DESTROY, 2)],
            Self::Enrol => &[(Party::New, CREATE, 1)],
        }
    }
}

impl Party {
    const fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Home => "home",
            Self::Away => "away",
            Self::New => "new",
        }
    }
}

impl Mode {
    const fn name(self) -> &'static str {
        match self {
            Self::Abort => "abort",
            Self::Stop => "stop",
            Self::LongStop => "long-stop",
            Self::Fail => "fail",
            Self::Orphan => "orphan",
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (operation, party) = (self.operation.name(), self.party.name());
        let place = match self.place {
            Place::At(point) => point.name().to_owned(),
            Place::Before(call, n) => format!("before-{call}-{n}"),
            Place::After(call, n) => format!("after-{call}-{n}"),
        };
        write!(f, "{operation}.{party}.{place}.{}", self.mode.name())?;
        match self.kind {
            Kind::SoftHsm => f.write_str(".softhsm"),
            Kind::Kryoptic | Kind::Nss | Kind::OpenCryptoki => Ok(()),
        }
    }
}

impl Case {
    /// Whether it is the module host that meets with it.
    pub(crate) fn is_in_the_host(&self) -> bool {
        !matches!(self.place, Place::At(point) if point != Point::JobReceived && point != Point::JobDone)
    }

    /// Whether its agent may be in a write to the token when it ends: SoftHSM2 does not outlive that (promises 1.7).
    const fn may_cut_a_write(&self) -> bool {
        matches!(self.place, Place::Before(..) | Place::After(..))
    }
}

/// All cases of an operation on a make of token. Not there: an error where the point has none, a long stop anywhere but where
/// an agent has the intent and a coordinator has sent it, and on SoftHSM2 all that is not an end of a process, or is one in the
/// midst of a write.
pub(crate) fn cases(operation: Operation, kind: Kind) -> Vec<Case> {
    let mut cases = Vec::new();
    for (party, points) in operation.way() {
        for &point in points {
            let place = Place::At(point);
            let mut modes = vec![Mode::Abort, Mode::Stop];
            if point.can_fail() && !(party == Party::Home && point == Point::BeforeReport) {
                modes.push(Mode::Fail);
            }
            if point == Point::Sent || (point == Point::Journaled && party == Party::Away) {
                modes.push(Mode::LongStop);
            }
            cases.extend(modes.into_iter().map(|mode| (party, place, mode)));
        }
    }
    let calls = operation.calls().iter();
    let each = calls.flat_map(|&(party, call, times)| (1..=times).map(move |n| (party, call, n)));
    for (party, call, n) in each {
        for place in [Place::Before(call, n), Place::After(call, n)] {
            cases.extend([Mode::Abort, Mode::Stop, Mode::Fail].map(|mode| (party, place, mode)));
        }
        cases.push((party, Place::Before(call, n), Mode::Orphan));
    }
    let cases = cases.into_iter().map(|(party, place, mode)| Case {
        kind,
        operation,
        party,
        place,
        mode,
    });
    cases
        .filter(|case| match kind {
            Kind::SoftHsm => match case.mode {
                Mode::Abort => !case.may_cut_a_write(),
                Mode::Orphan => true,
                Mode::Stop | Mode::LongStop | Mode::Fail => false,
            },
            Kind::Kryoptic | Kind::Nss | Kind::OpenCryptoki => true,
        })
        .collect()
}

#[test]
fn the_matrix_comes_by_every_point_in_every_way() {
    let all: Vec<Case> = Operation::ALL
        .into_iter()
        .flat_map(|operation| cases(operation, Kind::Kryoptic))
        .collect();
    for point in Point::ALL {
        let modes = |mode| {
            let is_it = |case: &&Case| case.place == Place::At(point) && case.mode == mode;
            all.iter().filter(is_it).count()
        };
        assert!(modes(Mode::Abort) > 0, "{point:?}");
        assert!(modes(Mode::Stop) > 0, "{point:?}");
        assert_eq!(modes(Mode::Fail) > 0, point.can_fail(), "{point:?}");
    }
    let mut names: Vec<String> = all.iter().map(ToString::to_string).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "names are unique");
    assert!(count >= 270, "{count}");
}
