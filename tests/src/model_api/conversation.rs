//! What a request to the model API holds that matters here.

use serde_json::Value;

use super::script::CallId;

/// What a tool gave back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolResult {
    /// Of which call.
    pub id: CallId,
    /// Claude Code calls it an error.
    pub is_error: bool,
    /// Its text.
    pub text: String,
}

/// A request's body, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conversation {
    pub(super) model: String,
    pub(super) stream: bool,
    /// Only the main conversation offers Bash; helper calls (titles, topic detection) do not.
    pub(super) is_main: bool,
    /// The step that comes next.
    pub(super) step_next: usize,
    /// Results of the script's calls, in order.
    pub(super) results: Vec<ToolResult>,
}

impl Conversation {
    /// `None` when the body is not a request for a message.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let messages = body.get("messages")?.as_array()?;
        let blocks = || messages.iter().filter_map(|message| message.get("content")?.as_array()).flatten();
        let tools = body.get("tools").and_then(Value::as_array);
        Some(Self {
            model: body.get("model")?.as_str()?.to_owned(),
            stream: body.get("stream").and_then(Value::as_bool).unwrap_or(false),
            is_main: tools.is_some_and(|tools| tools.iter().any(|tool| text(tool, "name") == Some("Bash"))),
            step_next: blocks().filter_map(call_made).map(|id| id.step + 1).max().unwrap_or(0),
            results: blocks().filter_map(result).collect(),
        })
    }
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str()
}

fn call_made(block: &Value) -> Option<CallId> {
    (text(block, "type")? == "tool_use").then(|| text(block, "id")?.parse().ok()).flatten()
}

fn result(block: &Value) -> Option<ToolResult> {
    if text(block, "type")? != "tool_result" {
        return None;
    }
    let id = text(block, "tool_use_id")?.parse().ok()?;
    let said = match block.get("content") {
        Some(Value::String(said)) => said.clone(),
        Some(Value::Array(parts)) => {
            parts.iter().filter_map(|part| text(part, "text")).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    };
    let is_error = block.get("is_error").and_then(Value::as_bool).unwrap_or(false);
    Some(ToolResult { id, is_error, text: said })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: &Value) -> Option<Conversation> {
        Conversation::parse(value.to_string().as_bytes())
    }

    #[test]
    fn next_step_and_results() {
        let body = json!({
            "model": "m", "stream": true, "tools": [{"name": "Read"}, {"name": "Bash"}],
            "messages": [
                {"role": "user", "content": "go"},
                {"role": "assistant", "content": [
                    {"type": "text", "text": "x"},
                    {"type": "tool_use", "id": "toolu_script_00_00", "name": "Bash", "input": {}},
                    {"type": "tool_use", "id": "toolu_script_00_01", "name": "Bash", "input": {}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_script_00_00", "content": "plain"},
                    {"type": "tool_result", "tool_use_id": "toolu_script_00_01", "is_error": true,
                     "content": [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]},
                    {"type": "tool_result", "tool_use_id": "toolu_of_somebody_else", "content": "no"},
                    {"type": "text", "text": "a reminder"},
                ]},
            ],
        });
        let found = parse(&body).expect("valid");
        assert_eq!((found.step_next, found.is_main, found.stream), (1, true, true));
        let results: Vec<_> =
            found.results.iter().map(|r| (r.id.call, r.is_error, r.text.as_str())).collect();
        assert_eq!(results, [(0, false, "plain"), (1, true, "a\nb")]);
    }

    #[test]
    fn helper_calls_and_other_bodies() {
        let helper = parse(&json!({"model": "m", "messages": [{"role": "user", "content": "title?"}]}));
        assert_eq!(helper, Some(Conversation { model: "m".into(), ..Conversation::default() }));
        for other in [
            json!({}),
            json!({"model": "m"}),
            json!({"messages": []}),
            json!([1]),
            json!({"model": 1, "messages": []}),
        ] {
            assert_eq!(parse(&other), None, "{other}");
        }
        assert_eq!(Conversation::parse(b"{"), None);
    }
}
