use clap::{Parser, Subcommand};
use config::CommonArgs;

/// Every release of every project, unpacked, read-only, fetched when it is read.
///
/// `ol-pkgfs mount` serves a folder in which each wheel of the package index stands unpacked, at
/// <project>/<version>/<wheel tag>/, and in which environments stand at .env/<id>/. Files are fetched when they are
/// first read, checked against the wheel's RECORD, and kept in <state>/store.
#[derive(Debug, Parser)]
#[command(name = "ol-pkgfs", version, after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) common: CommonArgs,
    #[command(subcommand)]
    pub(super) command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  ol-pkgfs mount                                   serve /ol/packages until Ctrl-C or SIGTERM
  ls /ol/packages/six/1.17.0                       the wheels of a release
  ol-pkgfs env create 'pandas>=2' requests         make an environment, print its folder
  $(ol-pkgfs env create -r requirements.txt)/bin/python app.py

Exit codes:
  0  done
  1  failed; standard error says why and what would help
  2  wrong usage
  3  the package index could not be reached or did not answer
  4  no ol-pkgfs runs for this state folder";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Mount the package file system and serve it until SIGINT or SIGTERM
    Mount,
    /// Take the mount away: also one that a killed run left
    Umount,
    /// Say what the running ol-pkgfs holds
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Make and list environments
    #[command(subcommand)]
    Env(EnvCommand),
}

#[derive(Debug, Subcommand)]
pub(super) enum EnvCommand {
    /// Make the environment of some requirements and print its folder
    ///
    /// Takes requirement specifiers, or one file: a pylock.toml, a requirements.txt (with or without -r), a
    /// pyproject.toml, or a script with a PEP 723 header. Everything but a lock is resolved first.
    Create {
        /// Requirements, or a file that holds them
        #[arg(required_unless_present = "file")]
        requirements: Vec<String>,
        /// A file of requirements, as pip spells it
        #[arg(short = 'r', long = "requirement", value_name = "FILE", conflicts_with = "requirements")]
        file: Option<String>,
        /// Print all that is known of it as JSON
        #[arg(long)]
        json: bool,
    },
    /// List the environments that were made
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}
