//! What the model says, step by step.

use std::{fmt, str::FromStr};

use serde::Deserialize;
use serde_json::{Map, Value};

/// Most steps in a script: more than any test needs, few enough that a conversation stays below the bound of a request.
const STEP_COUNT_MAX: usize = 64;
/// Most tool calls in a step.
const CALL_COUNT_MAX: usize = 16;

/// A script: the steps in order, then a text that ends the turn.
///
/// As a file it is JSON: `{"steps": [{"say": "...", "calls": [{"label": "...", "tool": "Bash", "input": {...}}]}], "closing": "..."}`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// At least one.
    pub steps: Vec<Step>,
    /// What is said after the last step's results, and to everything after it.
    pub closing: String,
}

/// One answer of the model.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Text before the calls.
    pub say: String,
    /// At least one; their results bring the next step.
    pub calls: Vec<Call>,
}

/// One tool call.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Name for people and for the test, unique in the script.
    pub label: String,
    /// Tool, such as `Bash`.
    pub tool: String,
    /// Its input.
    pub input: Map<String, Value>,
}

/// Which call of which step; as text the id of the `tool_use` block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId {
    /// Index of the step.
    pub step: usize,
    /// Index of the call in the step.
    pub call: usize,
}

/// Why a script is not valid.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// Not JSON of the documented form.
    #[error("the script is not valid JSON of the documented form")]
    Parse(#[from] serde_json::Error),
    /// No step, or too many.
    #[error("a script has 1 to {STEP_COUNT_MAX} steps, not {0}")]
    StepCount(usize),
    /// A step without a call, or with too many.
    #[error("step {step} has {count} calls; 1 to {CALL_COUNT_MAX} are possible")]
    CallCount {
        /// Index of the step.
        step: usize,
        /// How many.
        count: usize,
    },
    /// A label stands twice.
    #[error("the label `{0}` stands twice")]
    Label(String),
}

impl Script {
    /// Reads the file form.
    ///
    /// # Errors
    /// When it is not of that form or breaks a bound.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        let script: Self = serde_json::from_str(text)?;
        script.check()?;
        Ok(script)
    }

    /// Whether the bounds hold and labels are unique.
    ///
    /// # Errors
    /// Names the first fault.
    pub fn check(&self) -> Result<(), ScriptError> {
        if !(1..=STEP_COUNT_MAX).contains(&self.steps.len()) {
            return Err(ScriptError::StepCount(self.steps.len()));
        }
        for (index, step) in self.steps.iter().enumerate() {
            if !(1..=CALL_COUNT_MAX).contains(&step.calls.len()) {
                return Err(ScriptError::CallCount { step: index, count: step.calls.len() });
            }
        }
        let mut labels = std::collections::BTreeSet::new();
        match self.calls().find(|(_, call)| !labels.insert(call.label.as_str())) {
            Some((_, call)) => Err(ScriptError::Label(call.label.clone())),
            None => Ok(()),
        }
    }

    /// Every call in order.
    pub fn calls(&self) -> impl Iterator<Item = (CallId, &Call)> {
        self.steps.iter().enumerate().flat_map(|(step, said)| {
            said.calls.iter().enumerate().map(move |(call, made)| (CallId { step, call }, made))
        })
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "toolu_script_{:02}_{:02}", self.step, self.call)
    }
}

impl FromStr for CallId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (step, call) =
            text.strip_prefix("toolu_script_").and_then(|rest| rest.split_once('_')).ok_or(())?;
        let number =
            |digits: &str| match digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit()) {
                true => digits.parse().map_err(drop),
                false => Err(()),
            };
        Ok(Self { step: number(step)?, call: number(call)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let check = |text: &str, expect: &str| {
            let found = Script::parse(text).map(|script| script.calls().count().to_string());
            let found = found.unwrap_or_else(|error| error.to_string());
            assert!(found.contains(expect), "{text}: {found}");
        };
        let call = r#"{"label":"a","tool":"Bash","input":{"command":"ls"}}"#;
        check(&format!(r#"{{"steps":[{{"say":"x","calls":[{call}]}}],"closing":"done"}}"#), "1");
        check(
            &format!(r#"{{"steps":[{{"say":"x","calls":[{call},{call}]}}],"closing":"done"}}"#),
            "`a` stands twice",
        );
        check(r#"{"steps":[],"closing":"done"}"#, "not 0");
        check(r#"{"steps":[{"say":"x","calls":[]}],"closing":"done"}"#, "step 0 has 0 calls");
        check(
            r#"{"steps":[{"say":"x","calls":[{"label":"a","tool":"Bash","input":"ls"}]}],"closing":""}"#,
            "not valid",
        );
        check(r#"{"steps":[],"closing":"done","more":1}"#, "not valid");
        check("", "not valid");
    }

    #[test]
    fn ids() {
        let id = CallId { step: 3, call: 12 };
        assert_eq!(id.to_string(), "toolu_script_03_12");
        assert_eq!("toolu_script_03_12".parse(), Ok(id));
        for wrong in ["", "toolu_script_3_1", "toolu_script_03", "toolu_01AbC", "toolu_script_+3_01"] {
            assert_eq!(wrong.parse::<CallId>(), Err(()), "{wrong}");
        }
    }
}
