//! One running child: its process, its pipes, and the task that reads what it says.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::keystore::host::frame::{self, FrameError};
use crate::keystore::host::handle::HostConfig;
use crate::keystore::host::protocol::Answer;

/// How long a killed process may take to be gone. One that is stuck in the kernel is not: then no other is started, for two
/// processes on one token lose objects (facts-pkcs11.md G3).
const REAP_DEADLINE: Duration = Duration::from_secs(5);

/// A child and the line to it.
#[derive(Debug)]
pub struct Line {
    child: Child,
    /// Gone once the child was told to end.
    requests: Option<ChildStdin>,
    answers: mpsc::Receiver<Result<Answer, FrameError>>,
}

/// What came instead of an answer: the line cannot be used any more.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The child said something that it should not.
    #[error("it answered {what}")]
    Garbled {
        /// What, for people.
        what: String,
    },
    /// The pipe ended.
    #[error("it ended")]
    Ended,
}

impl Line {
    /// Starts the program. It gets the environment of the config and nothing else, a process group of its own (a
    /// terminal's Ctrl-C is not for it), and `/` as its directory. It is not killed when the line is dropped: it ends when
    /// its call is done.
    ///
    /// # Errors
    /// The system's.
    pub fn start(config: &HostConfig) -> io::Result<Self> {
        let mut child = Command::new(&config.program)
            .args(&config.args)
            .env_clear()
            .envs(&config.env)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let (Some(requests), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("a child without pipes"));
        };
        let (sender, answers) = mpsc::channel(1);
        let _ends_with_the_pipe = tokio::spawn(read_answers(stdout, sender));
        Ok(Self {
            child,
            requests: Some(requests),
            answers,
        })
    }

    /// The process; `None` once it is reaped.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Writes a frame.
    ///
    /// # Errors
    /// [`LineError::Ended`]: the child has not read all of it, so it has not begun.
    pub async fn send(&mut self, frame: &[u8]) -> Result<(), LineError> {
        let Some(requests) = &mut self.requests else {
            return Err(LineError::Ended);
        };
        let sent = requests.write_all(frame).await;
        sent.map_err(|_broken_pipe| LineError::Ended)
    }

    /// The next answer. May be dropped halfway without loss.
    ///
    /// # Errors
    /// [`LineError`].
    pub async fn answer(&mut self) -> Result<Answer, LineError> {
        match self.answers.recv().await {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(error)) => Err(LineError::Garbled {
                what: error.to_string(),
            }),
            None => Err(LineError::Ended),
        }
    }

    /// Waits for the end of the process by itself. May be dropped halfway.
    pub async fn ended(&mut self) -> String {
        describe(self.child.wait().await)
    }

    /// Closes the child's pipe, lets it end by itself within `grace`, then kills it. `Err` gives the line back: the process
    /// is still there.
    ///
    /// # Errors
    /// The line, if the process could not be reaped in 5 s.
    pub async fn end(mut self, grace: Duration) -> Result<String, Box<Self>> {
        self.requests = None;
        if let Ok(status) = timeout(grace, self.child.wait()).await {
            return Ok(describe(status));
        }
        if let Err(error) = self.child.start_kill() {
            tracing::error!(%error, "the module host could not be killed");
        }
        match timeout(REAP_DEADLINE, self.child.wait()).await {
            Ok(status) => Ok(describe(status)),
            Err(_still_there) => Err(Box::new(self)),
        }
    }
}

fn describe(status: io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => format!("its end is not known: {error}"),
    }
}

async fn read_answers(pipe: ChildStdout, answers: mpsc::Sender<Result<Answer, FrameError>>) {
    // A short answer comes by one read: length and body have a call each without.
    let mut pipe = BufReader::new(pipe);
    while let Some(answer) = frame::receive(&mut pipe).await.transpose() {
        let garbled = answer.is_err();
        if answers.send(answer).await.is_err() || garbled {
            return;
        }
    }
}
