//! The answer to a request for a message: one JSON object, or the same as server-sent events.

use serde_json::{Value, json};

use super::{
    conversation::Conversation,
    script::{CallId, Script},
};

/// The message as the API would return it without streaming.
pub(super) fn message(script: &Script, asked: &Conversation, number: usize) -> Value {
    let step = asked.is_main.then(|| script.steps.get(asked.step_next)).flatten();
    let content = match step {
        Some(step) => {
            let calls = step.calls.iter().enumerate().map(|(call, made)| {
                let id = CallId { step: asked.step_next, call }.to_string();
                json!({"type": "tool_use", "id": id, "name": made.tool, "input": made.input})
            });
            std::iter::once(json!({"type": "text", "text": step.say})).chain(calls).collect()
        }
        None if asked.is_main => vec![json!({"type": "text", "text": script.closing})],
        None => vec![json!({"type": "text", "text": "ok"})],
    };
    json!({
        "id": format!("msg_script_{number:04}"), "type": "message", "role": "assistant", "model": asked.model,
        "content": content,
        "stop_reason": if step.is_some() { "tool_use" } else { "end_turn" },
        "stop_sequence": null,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    })
}

/// The events of which `message` is the sum.
pub(super) fn events(message: &Value) -> String {
    let mut start = message.clone();
    start["content"] = json!([]);
    start["stop_reason"] = Value::Null;
    let mut events = vec![json!({"type": "message_start", "message": start})];
    for (index, block) in message["content"].as_array().into_iter().flatten().enumerate() {
        let (empty, delta) = if block["type"] == "tool_use" {
            let mut empty = block.clone();
            empty["input"] = json!({});
            (empty, json!({"type": "input_json_delta", "partial_json": block["input"].to_string()}))
        } else {
            (json!({"type": "text", "text": ""}), json!({"type": "text_delta", "text": block["text"]}))
        };
        events.push(json!({"type": "content_block_start", "index": index, "content_block": empty}));
        events.push(json!({"type": "content_block_delta", "index": index, "delta": delta}));
        events.push(json!({"type": "content_block_stop", "index": index}));
    }
    let delta = json!({"stop_reason": message["stop_reason"], "stop_sequence": null});
    events.push(json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 1}}));
    events.push(json!({"type": "message_stop"}));
    events
        .iter()
        .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script() -> Script {
        let text = r#"{"steps":[{"say":"first","calls":[{"label":"a","tool":"Bash","input":{"command":"ls"}}]}],"closing":"bye"}"#;
        Script::parse(text).expect("valid")
    }

    fn check(is_main: bool, step_next: usize, expect: &str) {
        let asked = Conversation { model: "m".into(), is_main, step_next, ..Conversation::default() };
        let found = message(&script(), &asked, 0);
        assert_eq!(json!([found["stop_reason"], found["content"]]).to_string(), expect);
    }

    #[test]
    fn messages() {
        check(
            true,
            0,
            r#"["tool_use",[{"text":"first","type":"text"},{"id":"toolu_script_00_00","input":{"command":"ls"},"name":"Bash","type":"tool_use"}]]"#,
        );
        check(true, 1, r#"["end_turn",[{"text":"bye","type":"text"}]]"#);
        check(true, 9, r#"["end_turn",[{"text":"bye","type":"text"}]]"#);
        check(false, 0, r#"["end_turn",[{"text":"ok","type":"text"}]]"#);
    }

    #[test]
    fn events_carry_the_whole_message() {
        let asked = Conversation { model: "m".into(), is_main: true, ..Conversation::default() };
        let text = events(&message(&script(), &asked, 7));
        let names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
        let block = ["content_block_start", "content_block_delta", "content_block_stop"];
        let expect = [&["message_start"][..], &block, &block, &["message_delta", "message_stop"]].concat();
        assert_eq!(names, expect);
        assert!(text.contains(r#""partial_json":"{\"command\":\"ls\"}""#), "{text}");
        assert!(text.contains(r#""stop_reason":"tool_use""#), "{text}");
        for data in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
            serde_json::from_str::<Value>(data).expect("each line of data is JSON");
        }
    }
}
