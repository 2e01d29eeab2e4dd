use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::StartError;

/// A policy file of `config/seccomp`: filters that are loaded one after the other.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy {
    filter: Vec<Filter>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    otherwise: String,
    listed: String,
    calls: Vec<String>,
    #[serde(flatten)]
    machine: Machine,
}

#[derive(Deserialize)]
struct Machine {
    #[serde(default)]
    x86_64: Vec<String>,
    #[serde(default)]
    aarch64: Vec<String>,
    #[serde(default)]
    when: Vec<When>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct When {
    call: String,
    arg: u8,
    #[serde(default)]
    equals: Vec<u64>,
    #[serde(default)]
    any_bit_of: Vec<u64>,
    /// What another argument must be at the same time.
    and: Option<Equal>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Equal {
    arg: u8,
    equals: u64,
}

/// Compiles a policy to the kernel's instructions, one program a filter.
pub(super) fn compile(policy: &'static str, text: &str) -> Result<Vec<Vec<u8>>, StartError> {
    let wrong = |reason: String| StartError::Policy { policy, reason };
    compile_for(std::env::consts::ARCH, text).map_err(wrong)
}

fn compile_for(machine: &str, text: &str) -> Result<Vec<Vec<u8>>, String> {
    let parsed: Policy = toml::from_str(text).map_err(|error| error.to_string())?;
    parsed.filter.iter().map(|filter| program(filter, machine)).collect()
}

fn program(filter: &Filter, machine: &str) -> Result<Vec<u8>, String> {
    let document = json!({ "filter": {
        "mismatch_action": action(&filter.otherwise)?,
        "match_action": action(&filter.listed)?,
        "filter": rules(filter, machine),
    }});
    let target = machine.try_into().map_err(|_| format!("no seccomp support for {machine}"))?;
    let programs: BTreeMap<_, _> = seccompiler::compile_from_json(document.to_string().as_bytes(), target)
        .map_err(|error| error.to_string())?
        .into_iter()
        .collect();
    let instructions = programs.into_values().next().unwrap_or_default();
    Ok(instructions.iter().flat_map(bytes).collect())
}

/// One instruction as `struct sock_filter` lies in memory.
fn bytes(instruction: &seccompiler::sock_filter) -> [u8; 8] {
    let [c0, c1] = instruction.code.to_ne_bytes();
    let [k0, k1, k2, k3] = instruction.k.to_ne_bytes();
    [c0, c1, instruction.jt, instruction.jf, k0, k1, k2, k3]
}

fn rules(filter: &Filter, machine: &str) -> Vec<Value> {
    let own = if machine == "aarch64" { &filter.machine.aarch64 } else { &filter.machine.x86_64 };
    let mut rules: Vec<Value> =
        filter.calls.iter().chain(own).map(|call| json!({ "syscall": call })).collect();
    let test =
        |arg: u8, op: Value, value: u64| json!({ "index": arg, "type": "dword", "op": op, "val": value });
    for when in &filter.machine.when {
        let also = when.and.as_ref().map(|other| test(other.arg, json!("eq"), other.equals));
        let condition = |op: Value, value: u64| {
            let tests: Vec<Value> = std::iter::once(test(when.arg, op, value)).chain(also.clone()).collect();
            json!({ "syscall": when.call, "args": tests })
        };
        rules.extend(when.equals.iter().map(|&value| condition(json!("eq"), value)));
        rules.extend(when.any_bit_of.iter().map(|&bit| condition(json!({ "masked_eq": bit }), bit)));
    }
    rules
}

fn action(text: &str) -> Result<Value, String> {
    match text.split_once(' ') {
        None if text == "allow" => Ok(json!("allow")),
        Some(("errno", number)) => {
            let number: u32 = number.parse().map_err(|_| format!("`{number}` is no errno"))?;
            Ok(json!({ "errno": number }))
        }
        _ => Err(format!("`{text}` is neither `allow` nor `errno <number>`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_policies_compile_and_a_leaf_filter_is_small() {
        let zygote = compile("zygote", config::seccomp::ZYGOTE).unwrap();
        assert_eq!(zygote.len(), 1);
        let leaf = compile("leaf", config::seccomp::LEAF).unwrap();
        assert_eq!(leaf.len(), 2);
        let instructions: usize = leaf.iter().map(|program| program.len() / 8).sum();
        assert!(instructions < 120, "{instructions} instructions are loaded at each fork");
    }

    #[test]
    fn every_call_is_known_on_every_machine() {
        for machine in ["x86_64", "aarch64"] {
            for text in [config::seccomp::ZYGOTE, config::seccomp::LEAF] {
                compile_for(machine, text).unwrap();
            }
        }
    }

    #[test]
    fn an_unknown_call_is_named() {
        let text = "[[filter]]\notherwise = 'allow'\nlisted = 'errno 1'\ncalls = ['no_such_call']";
        assert!(compile("test", text).unwrap_err().to_string().contains("no_such_call"));
    }
}
