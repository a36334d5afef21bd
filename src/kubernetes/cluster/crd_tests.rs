//! The definition's schema is structural, and each refinement has its place.

use super::*;

#[test]
fn the_schema_is_structural() {
    structural::assert_structural(&schema(), 100);
}

#[test]
fn each_refinement_has_its_place() {
    let schema = schema();
    let spec = &schema["properties"]["spec"]["properties"];
    assert_eq!(spec["state"]["enum"], json!(["Active", "Cordoned", "Draining"]));
    assert_eq!(spec["state"]["default"], "Active");
    assert_eq!(spec["commit"]["enum"], json!(["BindFirst", "CreateFirst"]));
    assert_eq!(spec["preference"]["maximum"], 100);
    assert_eq!(spec["runNamespace"]["maxLength"], 63);
    assert_eq!(spec["lost"]["properties"]["forgetAfter"]["pattern"], SPAN);
    assert_eq!(spec["drain"]["properties"]["deadline"]["pattern"], SPAN);
    assert_eq!(spec["reserve"]["additionalProperties"]["pattern"], QUANTITY);
    let reference = &spec["access"]["properties"]["kubeconfigSecretRef"];
    assert_eq!((&reference["required"], &reference["properties"]["key"]["default"]), (&json!(["namespace", "name"]), &json!("kubeconfig")));
    let source = &spec["volumes"]["items"]["properties"]["source"];
    assert_eq!(source["properties"]["nfs"]["required"], json!(["server", "path"]));
    assert_eq!(source["properties"]["csi"]["properties"]["volumeAttributes"]["additionalProperties"]["maxLength"], 4096);
    assert!(source["x-kubernetes-validations"][0]["rule"].is_string());
    assert!(spec["pin"]["description"].as_str().unwrap().contains("Affinity"), "{}", spec["pin"]);
}
