// etcd, the API server's store: in comes etcd's own command line, out goes the server. Built here because `go install` refuses modules that
// carry replace directives and packaged etcds are older than 3.5.13, which cannot serve watch-list.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
