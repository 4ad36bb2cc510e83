//! The model API over a real connection, as Claude Code would speak to it.
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::{Value, json};
use treeline_tests::model_api::{ModelApi, Script};

fn script() -> Script {
    let call =
        |label: &str| json!({"label": label, "tool": "Bash", "input": {"command": format!("echo {label}")}});
    let steps =
        json!([{"say": "one", "calls": [call("a"), call("b")]}, {"say": "two", "calls": [call("c")]}]);
    Script::parse(&json!({"steps": steps, "closing": "the end"}).to_string()).expect("a valid script")
}

fn exchange(api: &ModelApi, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", api.port())).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
    stream.write_all(request).expect("the server reads");
    stream.shutdown(std::net::Shutdown::Write).expect("half closed");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer, then the end");
    answer
}

fn ask(api: &ModelApi, messages: &Value) -> String {
    let body =
        json!({"model": "m", "stream": true, "tools": [{"name": "Bash"}], "messages": messages}).to_string();
    let head = "POST /v1/messages?beta=true HTTP/1.1\r\nHost: x\r\nX-Claude-Code-Session-Id: s-1\r\n";
    exchange(api, format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes())
}

#[test]
fn a_conversation_runs_through_the_script() {
    let api = ModelApi::start(script()).expect("loopback");
    let mut messages = vec![json!({"role": "user", "content": "go"})];
    for (ids, expect) in [
        (vec!["toolu_script_00_00", "toolu_script_00_01"], "echo a"),
        (vec!["toolu_script_01_00"], "echo c"),
        (vec![], "the end"),
    ] {
        let answer = ask(&api, &json!(messages));
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains(expect), "{answer}");
        let used: Vec<_> = ids.iter().map(|id| json!({"type": "tool_use", "id": id})).collect();
        let told: Vec<_> =
            ids.iter().map(|id| json!({"type": "tool_result", "tool_use_id": id, "content": *id})).collect();
        messages.push(json!({"role": "assistant", "content": used}));
        messages.push(json!({"role": "user", "content": told}));
    }
    let results = api.results();
    let labels: Vec<_> =
        results.iter().map(|(label, result)| (label.as_str(), result.text.as_str())).collect();
    assert_eq!(
        labels,
        [("a", "toolu_script_00_00"), ("b", "toolu_script_00_01"), ("c", "toolu_script_01_00")]
    );
    assert!(api.received().iter().all(|request| request.session.as_deref() == Some("s-1")));
    assert_eq!(api.faults(), Vec::<String>::new());
}

#[test]
fn a_repeated_request_gets_the_same_step() {
    let api = ModelApi::start(script()).expect("loopback");
    for _ in 0..2 {
        assert!(ask(&api, &json!([{"role": "user", "content": "go"}])).contains("toolu_script_00_00"));
    }
}

#[test]
fn other_requests_are_refused_and_kept() {
    let api = ModelApi::start(script()).expect("loopback");
    let check = |request: &str, expect: &str| {
        let answer = exchange(&api, request.as_bytes());
        assert!(answer.starts_with(expect), "{request}: {answer}");
    };
    check("GET /v1/models HTTP/1.1\r\n\r\n", "HTTP/1.1 404");
    check("POST /v1/messages HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 400");
    check("nonsense\r\n\r\n", "HTTP/1.1 400");
    check("POST /v1/messages HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n", "HTTP/1.1 400");
    let kept: Vec<_> = api.received().into_iter().map(|request| (request.target, request.status)).collect();
    assert_eq!(kept, [("/v1/models".into(), 404), ("/v1/messages".into(), 400)]);
}
