//! What a fork costs: `fork_cost [environment module…]` prints medians of 200 forks of a bare leaf, and of a leaf whose
//! zygote has imported the modules, from the request to the first reply. Needs root.
#![expect(clippy::print_stdout, reason = "the figures are its output")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use executor::sandbox::{CallContext, LeafKind, LeafSpec, Limits, Sandboxes, Zygote, ZygoteSpec, stage_main};

const ROUNDS: usize = 200;

/// Times one kind of fork.
struct Bench {
    sandboxes: Sandboxes,
    code: tempfile::TempDir,
    limits: Limits,
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if let Some(code) = stage_main(&arguments) {
        return code;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match runtime.block_on(measure(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(arguments: Vec<std::ffi::OsString>) -> anyhow::Result<()> {
    let state = tempfile::tempdir()?;
    let common = config::CommonArgs { state: Some(state.path().to_path_buf()), ..Default::default() };
    let settings = common.load()?;
    let python = mirror::Interpreter::find(None)?;
    let start = Instant::now();
    let sandboxes = Sandboxes::start(&settings, &python, None).await?;
    println!("start              {:8.2} ms", milliseconds(start.elapsed()));
    let start = Instant::now();
    let root = sandboxes.root_zygote().await?;
    println!("root zygote        {:8.2} ms", milliseconds(start.elapsed()));
    let code = tempfile::tempdir()?;
    std::fs::write(code.path().join("f.py"), "def f(event):\n    return event\n")?;
    let bench = Bench { sandboxes: sandboxes.clone(), code, limits: Limits::from(&settings.executor) };
    bench.run("bare leaf", &root, None).await?;
    if let Some(env) = arguments.get(1).map(PathBuf::from) {
        let imports = arguments[2..].iter().map(|name| name.to_string_lossy().into_owned()).collect();
        let start = Instant::now();
        let zygote = sandboxes.child_zygote(&root, ZygoteSpec { env_path: env.clone(), imports }).await?;
        println!(
            "zygote             {:8.2} ms, not imported: {:?}",
            milliseconds(start.elapsed()),
            zygote.failed_imports()
        );
        bench.run("leaf with modules", &zygote, Some(env)).await?;
    }
    drop(root);
    sandboxes.stop().await;
    Ok(())
}

impl Bench {
    async fn run(&self, name: &str, zygote: &Zygote, env_path: Option<PathBuf>) -> anyhow::Result<()> {
        let (mut forks, mut firsts, mut warms, mut ends) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let context = CallContext { request_id: "bench".into(), function: "bench".into() };
        for _ in 0..ROUNDS {
            let spec = LeafSpec {
                env_path: env_path.clone(),
                code_dir: self.code.path().to_path_buf(),
                kind: LeafKind::Function { file: "f.py".into() },
                environ: Vec::new(),
                limits: self.limits.clone(),
            };
            let start = Instant::now();
            let mut leaf = self.sandboxes.fork(zygote, spec).await?;
            forks.push(start.elapsed());
            leaf.call(b"1", &context).await;
            firsts.push(start.elapsed());
            let start = Instant::now();
            leaf.call(b"1", &context).await;
            warms.push(start.elapsed());
            let start = Instant::now();
            leaf.end().await;
            ends.push(start.elapsed());
        }
        for (what, times) in
            [("ready", forks), ("first reply", firsts), ("second call", warms), ("ended", ends)]
        {
            print_line(name, what, times);
        }
        Ok(())
    }
}

fn print_line(name: &str, what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| milliseconds(times[times.len() * part / 100]);
    println!("{name:18} {what:12} p50 {:6.2} ms  p90 {:6.2}  p99 {:6.2}", at(50), at(90), at(99));
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
