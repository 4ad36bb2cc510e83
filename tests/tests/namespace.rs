//! Private namespaces. Needs root; without it the test says so and counts as skipped.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

use treeline_tests::namespace;

#[test]
fn loopback_is_up_and_nothing_else_is_there() {
    namespace::inside("loopback_is_up_and_nothing_else_is_there", || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut there = TcpStream::connect(listener.local_addr().expect("bound")).expect("loopback is up");
        listener.accept().expect("connected").0.write_all(b"hi").expect("sent");
        let mut text = String::new();
        there.read_to_string(&mut text).expect("received");
        assert_eq!(text, "hi");
        let devices = std::fs::read_to_string("/proc/net/dev").expect("devices");
        let names: Vec<_> =
            devices.lines().skip(2).filter_map(|line| line.trim().split(':').next()).collect();
        assert_eq!(names, ["lo"]);
        TcpStream::connect("192.0.2.1:9").expect_err("there is no way out");
    });
}
