use config::Settings;
use serde_json::json;

use super::Failure;
use super::progress::{self, Reporter};
use crate::repository::Repository;
use crate::sync::{self, Outcome, Plan};
use crate::{IndexClient, Interpreter, Requirements, ResolveError, Resolver, upstream};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// What to copy: requirements, or one requirements.txt, pyproject.toml, pylock.toml or script
    #[arg(required_unless_present = "file", value_name = "REQUIREMENTS")]
    requirements: Vec<String>,
    /// A file of requirements, as pip spells it
    #[arg(short = 'r', long = "requirement", value_name = "FILE", conflicts_with = "requirements")]
    file: Option<String>,
    /// Only show what would be done
    #[arg(long, visible_alias = "dry-run")]
    plan: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(settings: &Settings, args: Args) -> Result<(), Failure> {
    let words = args.file.as_ref().map_or(&*args.requirements, std::slice::from_ref);
    let requirements = Requirements::detect(words)?;
    let interpreter = Interpreter::of(settings)?;
    let index = upstream(settings, &interpreter)?;
    let reporter = Reporter::new();
    reporter.step("resolving");
    let client = IndexClient::new(settings, &index)?;
    let repository = Repository::new(&settings.state);
    let lock = match Resolver::new(settings, index, interpreter.clone()).lock(&requirements).await {
        Ok(lock) => lock,
        Err(error) => {
            // No lock can be had where a project was quarantined: its page is empty. It must go from here all the same.
            if matches!(error, ResolveError::Unsolvable { .. }) && !args.plan {
                reporter.step("looking at what is held");
                sync::withdraw_quarantined(settings, &client, &repository).await?;
            }
            return Err(error.into());
        }
    };
    reporter.step("looking at the index");
    let wanted = sync::gather(settings, &client, &repository, &lock, &interpreter).await?;
    let plan = sync::plan(wanted);
    if args.plan {
        reporter.clear();
        progress::show(&if args.json { plan_json(&plan) } else { plan_text(&plan) });
        return Ok(());
    }
    let kept = plan.keep.len();
    let outcome = sync::apply(settings, &client, &repository, plan, &reporter).await?;
    reporter.clear();
    progress::show(&if args.json { outcome_json(&outcome, kept) } else { outcome_text(&outcome, kept) });
    let Some((_, first)) = outcome.failed.first() else { return Ok(()) };
    Err(match outcome.failed.len() {
        1 => Failure::Partly(crate::causes(first)),
        n => Failure::Partly(format!("{n} files could not be copied; the first: {}", crate::causes(first))),
    })
}

fn plan_text(plan: &Plan) -> String {
    let summary = plan.summary();
    let mut text = String::new();
    for (filename, size) in &summary.fetch {
        let size = size.map_or("size unknown".to_owned(), progress::bytes);
        text += &format!("fetch    {filename} ({size})\n");
    }
    let groups = [
        ("update", &summary.update),
        ("keep", &summary.keep),
        ("refuse", &summary.refused),
        ("withdraw", &summary.withdraw),
    ];
    for (verb, filenames) in groups {
        text.extend(filenames.iter().map(|filename| format!("{verb:8} {filename}\n")));
    }
    text
}

fn plan_json(plan: &Plan) -> String {
    let summary = plan.summary();
    let fetch: Vec<_> =
        summary.fetch.iter().map(|(name, size)| json!({ "filename": name, "size": size })).collect();
    json!({ "fetch": fetch, "update": summary.update, "keep": summary.keep, "refused": summary.refused, "withdraw": summary.withdraw })
        .to_string()
        + "\n"
}

fn outcome_text(outcome: &Outcome, kept: usize) -> String {
    let total: u64 = outcome.fetched.iter().map(|(_, size)| size).sum();
    let (fetched, failed) = (outcome.fetched.len(), outcome.failed.len());
    format!("{fetched} fetched ({}), {kept} held already, {failed} failed\n", progress::bytes(total))
}

fn outcome_json(outcome: &Outcome, kept: usize) -> String {
    let fetched: Vec<_> =
        outcome.fetched.iter().map(|(name, size)| json!({ "filename": name, "size": size })).collect();
    let failed: Vec<_> = outcome
        .failed
        .iter()
        .map(|(name, error)| json!({ "filename": name, "error": crate::causes(error) }))
        .collect();
    json!({ "fetched": fetched, "kept": kept, "failed": failed }).to_string() + "\n"
}
