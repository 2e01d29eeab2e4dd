# The commands of everyday work. Each is a line that also works without just.

# Everything: what CI runs.
ci:
    .ci/run

# All tests. Those that want real wheels need `.ci/run wheels` once.
test *arguments:
    cargo test --workspace {{arguments}}

# Formatting and lints, as CI holds them.
lint:
    .ci/run lint

fmt:
    cargo fmt --all

# The numbers of SPECIFICATION.md, in a minute or two.
bench-smoke *arguments:
    cargo run --release -p tests --bin bench_smoke -- {{arguments}}
