//! What every command that asks the coordinator has: the client, the terminal, the form of results, the time.

use serde::Serialize;

use crate::cli::args::Connection;
use crate::cli::client::{Client, ClientError};
use crate::cli::exit::Exit;
use crate::cli::table::Table;
use crate::cli::terminal::Terminal;
use crate::clock;
use crate::model::text::printable;
use crate::model::vault::UnixMs;

/// The form of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs: the bodies of the REST API.
    Json,
}

/// What a command has.
#[derive(Debug)]
pub struct Context<'a, 't> {
    /// The API.
    pub client: Client,
    /// Where to write.
    pub terminal: &'a mut Terminal<'t>,
    /// How.
    pub format: Format,
    /// When the command began: ages count to it.
    pub now: UnixMs,
}

impl<'a, 't> Context<'a, 't> {
    /// Reads the files that the connection needs.
    ///
    /// # Errors
    /// [`ClientError::Usage`], [`ClientError::Setup`] or [`ClientError::Files`].
    pub fn new(
        connection: &Connection,
        terminal: &'a mut Terminal<'t>,
    ) -> Result<Self, ClientError> {
        let missing = |what: &str| ClientError::Usage(format!("{what} is missing"));
        let url = connection
            .url
            .as_deref()
            .ok_or_else(|| missing("--url or LOCKSTEP_URL"))?;
        let token = connection
            .token_file
            .as_deref()
            .ok_or_else(|| missing("--token-file or LOCKSTEP_TOKEN_FILE"))?;
        Ok(Self {
            client: Client::new(url, token, connection.ca.as_deref())?,
            terminal,
            format: connection.output,
            now: clock::unix_ms(),
        })
    }

    /// Writes a result in the form that was asked for.
    ///
    /// # Errors
    /// If standard output is closed.
    pub fn show<T: Serialize>(
        &mut self,
        value: &T,
        table: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        let text = match self.format {
            Format::Table => table(value),
            Format::Json => serde_json::to_string_pretty(value)?,
        };
        writeln!(self.terminal.out, "{}", text.trim_end())?;
        Ok(())
    }

    /// Writes a list; an empty one says so.
    ///
    /// # Errors
    /// If standard output is closed.
    pub fn show_list<T: Serialize>(
        &mut self,
        items: &[T],
        header: &[&str],
        row: impl Fn(&T) -> Vec<String>,
    ) -> anyhow::Result<Exit> {
        let table = |items: &&[T]| {
            if items.is_empty() {
                return "none".to_owned();
            }
            let mut table = Table::new(header);
            for item in *items {
                table.row(row(item));
            }
            table.render()
        };
        self.show(&items, table)?;
        Ok(Exit::Done)
    }

    /// Writes something beside the result: to standard error, so that results stay alone.
    ///
    /// # Errors
    /// If standard error is closed.
    pub fn note(&mut self, sentence: &str) -> anyhow::Result<()> {
        writeln!(self.terminal.err, "{}", printable(sentence))?;
        Ok(())
    }

    /// Writes what was done: a sentence for people, nothing more for programs.
    ///
    /// # Errors
    /// If standard output is closed.
    pub fn say(&mut self, sentence: &str) -> anyhow::Result<()> {
        let sentence = printable(sentence);
        match self.format {
            Format::Table => writeln!(self.terminal.out, "{sentence}")?,
            Format::Json => writeln!(self.terminal.err, "{sentence}")?,
        }
        Ok(())
    }
}
