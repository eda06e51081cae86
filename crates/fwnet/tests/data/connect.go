// Connects to ADDRESS PORT; an error ends it with its own words.
package main

import (
	"log"
	"net"
	"os"
	"time"
)

func main() {
	if _, err := net.DialTimeout("tcp", net.JoinHostPort(os.Args[1], os.Args[2]), 20*time.Second); err != nil {
		log.Fatal(err)
	}
}
