//! Bodies, good and bad, and what they start.

use serde_json::json;

use super::*;

fn event(change: impl FnOnce(&mut Value)) -> Value {
    let mut event = json!({"specversion": "1.0", "type": "file", "source": "/radar", "id": "7", "subject": "Z9010_202611280606.bz2",
        "time": "2026-11-28T06:07:00Z", "data": {"any": "thing"}});
    change(&mut event);
    event
}

fn s3(key: &str, name: &str) -> Value {
    json!({"eventName": name, "eventTime": "2026-11-28T06:07:00.000Z",
        "s3": {"bucket": {"name": "in"}, "object": {"key": key, "eTag": "e", "sequencer": "0A"}}})
}

fn arrivals(value: &Value) -> Result<Vec<Arrival>, BadBody> {
    read("radar-in", value.to_string().as_bytes())
}

#[test]
fn cloud_events_are_read_alone_in_batches_and_from_headers() {
    let one = arrivals(&event(|_| {})).unwrap();
    assert_eq!((one[0].id.as_str(), one[0].name.as_str()), ("/radar#7", "Z9010_202611280606.bz2"));
    assert_eq!(one[0].time, Timestamp::parse_rfc3339("2026-11-28T06:07:00Z"));
    let two = arrivals(&json!([event(|_| {}), event(|event| event["id"] = "8".into())])).unwrap();
    assert_eq!((&two[0], two[1].id.as_str()), (&one[0], "/radar#8"));
    let headers = [("specversion", "1.0"), ("Type", "file"), ("source", "/radar"), ("id", "7"), ("subject", "Z9010_202611280606.bz2")];
    let from_headers = from_headers("radar-in", headers.into_iter()).unwrap();
    assert_eq!(from_headers.id, one[0].id);
}

#[test]
fn notifications_of_object_stores_are_read() {
    let body = json!({"Records": [s3("a/b+c%3D%C3%A9.grib", "ObjectCreated:Put"), s3("x", "ObjectRemoved:Delete"), s3("y%", "s3:ObjectCreated:Copy")]});
    let read = arrivals(&body).unwrap();
    let names: Vec<&str> = read.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["in/a/b c=é.grib", "in/y%"]);
    assert_eq!(read[0].id, "in/a/b c=é.grib#0A", "the same object written again is another event");
}

#[test]
fn bad_bodies_are_refused_in_words() {
    let long = "x".repeat(901);
    for (body, wanted) in [
        (json!({}).to_string(), "neither a CloudEvent"),
        ("{".to_owned(), "the body is not JSON: EOF"),
        (String::new(), "the body is not JSON"),
        ("\u{0}".to_owned(), "the body is not JSON"),
        ("[".repeat(100_000), "the body is not JSON: recursion limit"),
        (event(|event| event["specversion"] = "0.3".into()).to_string(), "specversion must be \"1.0\""),
        (event(|event| event["id"] = "".into()).to_string(), "id must be a text that is not empty"),
        (event(|event| event["id"] = 7.into()).to_string(), "id must be a text that is not empty"),
        (event(|event| event["source"] = Value::Null).to_string(), "source must be a text"),
        (event(|event| event["type"] = Value::Null).to_string(), "type must be a text"),
        (event(|event| event["time"] = "noon".into()).to_string(), "time is not a time in RFC 3339"),
        (event(|event| event["subject"] = long.clone().into()).to_string(), "subject has more than 900 characters"),
        (
            json!({"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "in"}}}]}).to_string(),
            "Records[0].s3.object.key must be",
        ),
        (json!({"Records": vec![s3("k", "ObjectCreated:Put"); 1_001]}).to_string(), "more than 1000 entries"),
        (json!(vec![event(|_| {}); 1_001]).to_string(), "more than 1000 events"),
    ] {
        let error = read("s", body.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    assert!(read("s", &vec![b' '; 10 << 20]).unwrap_err().to_string().contains("10485760 bytes"));
}

#[test]
fn an_arrival_starts_a_run_or_adds_to_one() {
    let now = Timestamp::parse_rfc3339("2026-11-28T06:10:00Z").unwrap();
    let data = Data { source: "radar-in".into(), matches: r"^(?<station>Z\d{4})_(?<cycle>\d{12})".into(), ..Data::default() };
    let arrival = arrivals(&event(|_| {})).unwrap().remove(0);
    let single = Matcher::new(&data).unwrap().firing(&arrival, now).unwrap();
    assert_eq!((single.key.as_str(), single.params["station"].as_str()), ("radar-in//radar#7", "Z9010"));
    assert_eq!(single.waits_for, None);
    let other = Arrival { source: "elsewhere".into(), ..arrival.clone() };
    assert_eq!(Matcher::new(&data).unwrap().firing(&other, now), None);

    let several = Data { all_of: vec![r"^model_(?<cycle>\d{12})".into()], deadline: crate::tasks::time::Span::new("10m"), ..data };
    let matcher = Matcher::new(&several).unwrap();
    let first = matcher.firing(&arrival, now).unwrap();
    let second = matcher.firing(&Arrival { name: "model_202611280606".into(), id: "x".into(), ..arrival }, now).unwrap();
    assert_eq!((&first.key, first.time), (&second.key, second.cycle));
    assert_ne!(first.arrived, second.arrived);
    assert_eq!(first.waits_for.unwrap().all_of.len(), 2);
}
