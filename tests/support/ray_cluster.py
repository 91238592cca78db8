"""A Ray cluster of two nodes on this machine, by Ray's own fixture, in a process of its own.

It prints the cluster's address and the process of the second node, kills that node at the first
line that it reads, and ends the cluster at the end of its input.
"""

import sys

from ray.cluster_utils import Cluster

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}

if __name__ == "__main__":
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    node = cluster.add_node(**NODE)
    (raylet,) = node.all_processes["raylet"]
    print(cluster.address, raylet.process.pid, flush=True)
    if sys.stdin.readline():
        cluster.remove_node(node, allow_graceful=False)
        print("lost", flush=True)
    sys.stdin.read()
    cluster.shutdown()
