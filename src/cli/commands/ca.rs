//! `lockstep ca`: makes the fleet's CA and certificates for its machines.

use std::path::PathBuf;

use clap::Subcommand;

use crate::cli::authority::{self, Order};
use crate::cli::exit::Exit;
use crate::cli::terminal::Terminal;
use crate::clock;
use crate::tls::name::{PeerName, Role};

/// What to do with certificates.
#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// Make the fleet's CA: DIR/ca.pem and DIR/ca.key. Refuses if there is one.
    Init {
        /// Where it is kept. Whoever reads ca.key can make agents and coordinators.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Its name, for people.
        #[arg(long, default_value = "fleet")]
        name: String,
    },
    /// Make a key and a certificate for one machine: OUT/cert.pem, OUT/key.pem and OUT/ca.pem.
    Issue {
        /// Where the CA is kept.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// What the machine is: agent or coordinator.
        #[arg(long)]
        role: Role,
        /// Its name: the certificate will be for spiffe://lockstep/ROLE/NAME.
        #[arg(long)]
        name: String,
        /// DNS name or IP address under which people reach it by HTTPS; may be given more than once.
        #[arg(long = "host", value_name = "HOST")]
        hosts: Vec<String>,
        /// How long it is valid.
        #[arg(long, default_value_t = authority::CERTIFICATE_DAYS, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        /// Where the files go. Refuses if they are there.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// Runs it.
///
/// # Errors
/// Whatever stands in the way of reading or writing the files.
pub fn run(command: CaCommand, terminal: &mut Terminal<'_>) -> anyhow::Result<Exit> {
    let now = clock::unix_ms();
    match command {
        CaCommand::Init { dir, name } => {
            let made = authority::init(&dir, &name, now)?;
            writeln!(terminal.out, "CA {name:?} made: {}", made.display())?;
        }
        CaCommand::Issue {
            dir,
            role,
            name,
            hosts,
            days,
            out,
        } => {
            let name = PeerName::new(role, &name)?;
            let order = Order {
                name: &name,
                hosts: &hosts,
                days,
                now,
            };
            authority::issue(&dir, &order, &out)?;
            writeln!(
                terminal.out,
                "certificate for {name}, valid for {days} days: {}",
                out.display()
            )?;
        }
    }
    Ok(Exit::Done)
}
