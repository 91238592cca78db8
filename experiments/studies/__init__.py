"""Studies: small measurements that are no comparison of methods, one module and one YAML each."""
