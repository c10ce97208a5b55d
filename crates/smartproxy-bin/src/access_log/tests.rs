use super::*;
use conn_tracker::RequestLine;
use proxy_route::AccessLogOutput;
use std::net::IpAddr;

fn settings(output: AccessLogOutput, sample: f64) -> AccessLogSettings {
    AccessLogSettings { output, format: LogFormat::Text, sample }
}

/// A log that nobody writes.
fn unwritten(sample: f64) -> AccessLog {
    let log = AccessLog::new();
    let Prepared(prepared) = Prepared::new(Some(&settings(AccessLogOutput::Stdout, sample))).expect("it opens");
    let (_, style) = prepared.expect("there is one");
    log.shards.iter().for_each(|shard| shard.0.lock().style = Some(style));
    log
}

fn file(path: &std::path::Path) -> AccessLogOutput {
    AccessLogOutput::File(path.to_owned())
}

fn record<'a>(id: &'a str, path: &'a str) -> AccessRecord<'a> {
    AccessRecord {
        route: None,
        client: IpAddr::from([192, 0, 2, 1]),
        port: 80,
        protocol: "HTTP/1.1",
        status: Some(200),
        end: "complete",
        elapsed: Duration::ZERO,
        received: 0,
        sent: 0,
        request: Some(RequestLine { id, method: "GET", host: "a.test", path }),
        sni: None,
    }
}

#[test]
fn what_is_not_written_is_counted() {
    let log = unwritten(1.0);
    const THREADS: usize = 4;
    const EACH: usize = 5_000;
    let path = "x".repeat(1_500);
    // Nobody writes: whatever does not fit is dropped, and no thread waits.
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| (0..EACH).for_each(|_| log.record(&record("7f", &path), None)));
        }
    });
    assert!(log.shards.iter().all(|shard| shard.0.lock().waiting.len() <= ROOM));
    let count = |shard: &Shard| shard.0.lock().waiting.iter().filter(|byte| **byte == b'\n').count();
    let kept: usize = log.shards.iter().map(count).sum();
    assert!(log.dropped() > 0 && kept > 0);
    assert_eq!(kept as u64 + log.dropped(), (THREADS * EACH) as u64);
}

#[test]
fn a_disk_that_takes_nothing_loses_lines_and_counts_them() {
    let full = settings(AccessLogOutput::File("/dev/full".into()), 1.0);
    let (log, flush) = AccessLog::start(Prepared::new(Some(&full)).expect("it opens")).expect("it starts");
    (0..10).for_each(|_| log.record(&record("7f", "/"), None));
    drop(flush);
    assert_eq!(log.dropped(), 10);
}

#[test]
fn everything_is_written_at_the_end_and_a_moved_file_is_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let prepared = Prepared::new(Some(&settings(AccessLogOutput::File(file.clone()), 1.0))).expect("it opens");
    let (log, flush) = AccessLog::start(prepared).expect("it starts");
    std::fs::rename(&file, &moved).expect("it can be moved");
    log.reopen();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !file.exists() {
        assert!(Instant::now() < deadline, "the file was not opened anew");
        std::thread::yield_now();
    }
    log.record(&record("7f", "/"), Some("web"));
    drop(flush);
    let lines = std::fs::read_to_string(&file).expect("text");
    assert!(lines.lines().count() == 1 && lines.contains("\"web\""), "{lines}");
    assert_eq!(std::fs::read(&moved).expect("it is there"), b"");
}

#[test]
fn lines_are_written_where_their_settings_say() {
    let folder = tempfile::tempdir().expect("a folder");
    let (text, json) = (folder.path().join("text"), folder.path().join("json"));
    let (log, flush) = AccessLog::start(Prepared(None)).expect("it starts");
    let log = &log;
    let adopt = |settings: Option<&AccessLogSettings>| log.adopt(Prepared::new(settings).expect("it opens"));
    assert!(!log.is_on());
    log.record(&record("7f", "/before"), None);
    let settings =
        [settings(file(&text), 1.0), AccessLogSettings { format: LogFormat::Json, ..settings(file(&json), 1.0) }];
    adopt(Some(&settings[0]));
    const EACH: usize = 20_000;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..EACH {
                    log.record(&record("7f", "/"), None);
                    std::thread::yield_now();
                }
            });
        }
        for turn in 0..20 {
            adopt(Some(&settings[turn % 2]));
            assert!(log.is_on());
        }
    });
    adopt(None);
    assert!(!log.is_on());
    log.record(&record("7f", "/after"), None);
    drop(flush);
    let [text, json] = [text, json].map(|file| std::fs::read_to_string(file).expect("text"));
    assert!(text.lines().all(|line| !line.starts_with('{')) && json.lines().all(|line| line.starts_with('{')));
    let lines = text.lines().count() + json.lines().count();
    assert_eq!(lines as u64 + log.dropped(), 2 * EACH as u64, "none is lost, none is there that is not wanted");
}

#[test]
fn samples_are_decided_by_the_id() {
    let counted = |sample| {
        let log = unwritten(sample);
        let ids: Vec<_> = (0..2_000).map(|number| format!("{number:032x}")).collect();
        ids.iter().for_each(|id| log.record(&record(id, "/"), None));
        let lines: Vec<u8> = log.shards.iter().flat_map(|shard| shard.0.lock().waiting.clone()).collect();
        let text = String::from_utf8(lines).expect("text");
        ids.iter().filter(|id| text.contains(id.as_str())).cloned().collect::<Vec<_>>()
    };
    assert_eq!(counted(1.0).len(), 2_000);
    assert_eq!(counted(0.0).len(), 0);
    let quarter = counted(0.25);
    assert!((400..600).contains(&quarter.len()), "{}", quarter.len());
    assert_eq!(counted(0.25), quarter, "the same ones each time");
    let half = counted(0.5);
    assert!(quarter.iter().all(|id| half.contains(id)), "a larger share has the same ones, and more");
}
