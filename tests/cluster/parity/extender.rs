//! An extender for the rows of `extenders.yaml`. In: what a scheduler sends. Out: answers by labels of nodes, the same for either scheduler.
//!
//! | verb | |
//! |---|---|
//! | `filter` | nodes with label `device: yes` pass; `never` is unresolvable |
//! | `prioritize` | label `score` |
//! | `broken` | 500 |
//! | `preempt` | only node `b` may be cleared |
//! | `bind` | binds, and notes it in an annotation |

use anyhow::Result;
use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use kube::Client;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

/// Serves until the test ends; returns the `extenders` of a configuration.
pub async fn serve(client: Client) -> Result<Value> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let router = Router::new().route("/{verb}", post(called)).with_state(client);
    tokio::spawn(async move { axum::serve(listener, router).await });
    let managed = |name: &str| json!([{"name": format!("example.com/{name}"), "ignoredByScheduler": true}]);
    Ok(json!([
        {"urlPrefix": url, "filterVerb": "filter", "prioritizeVerb": "prioritize", "weight": 10, "managedResources": managed("device")},
        {"urlPrefix": url, "filterVerb": "broken", "managedResources": managed("broken")},
        {"urlPrefix": url, "filterVerb": "broken", "managedResources": managed("ignored"), "ignorable": true},
        {"urlPrefix": url, "preemptVerb": "preempt", "nodeCacheCapable": true, "managedResources": managed("preempting")},
        {"urlPrefix": url, "bindVerb": "bind", "managedResources": managed("bound")},
    ]))
}

async fn called(State(client): State<Client>, Path(verb): Path<String>, Json(body): Json<Value>) -> Response {
    let nodes = body.pointer("/Nodes/items").and_then(Value::as_array).cloned().unwrap_or_default();
    let name = |node: &Value| node["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let label = |node: &Value, key: &str| node["metadata"]["labels"][key].as_str().unwrap_or_default().to_owned();
    match &*verb {
        "filter" => {
            let (mut failed, mut never) = (Map::new(), Map::new());
            let mut left = Vec::new();
            for node in nodes {
                match &*label(&node, "device") {
                    "yes" => left.push(node),
                    "never" => drop(never.insert(name(&node), "no driver".into())),
                    _ => drop(failed.insert(name(&node), "no device".into())),
                }
            }
            Json(json!({"Nodes": {"items": left}, "FailedNodes": failed, "FailedAndUnresolvableNodes": never})).into_response()
        }
        "prioritize" => {
            let score = |node: &Value| json!({"Host": name(node), "Score": label(node, "score").parse::<i64>().unwrap_or(0)});
            Json(nodes.iter().map(score).collect::<Vec<_>>()).into_response()
        }
        "preempt" => {
            let mut left = body["NodeNameToMetaVictims"].as_object().cloned().unwrap_or_default();
            left.retain(|node, _| node == "b");
            Json(json!({"NodeNameToMetaVictims": left})).into_response()
        }
        "bind" => {
            let error = bind(client, &body).await.err().map(|error| error.to_string());
            Json(json!({"Error": error.unwrap_or_default()})).into_response()
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn bind(client: Client, args: &Value) -> Result<()> {
    let (pod, namespace) = (args["PodName"].as_str().unwrap_or_default(), args["PodNamespace"].as_str().unwrap_or_default());
    let metadata = json!({"name": pod, "namespace": namespace, "uid": args["PodUID"], "annotations": {"bound-by": "extender"}});
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": {"kind": "Node", "name": args["Node"]}});
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/binding");
    let request = http::Request::post(path).header("content-type", "application/json").body(serde_json::to_vec(&binding)?)?;
    let _: Value = client.request(request).await?;
    Ok(())
}
