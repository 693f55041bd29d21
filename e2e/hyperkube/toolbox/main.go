// Command toolbox is what the pods of the end-to-end tests run: static, without a shell, with Go's own resolver.
//
//	toolbox pause                 wait for a signal (the sandbox image of every pod, and of test pods)
//	toolbox write FILE TEXT       write a file, then wait
//	toolbox lookup NAME           print the addresses of NAME
//	toolbox get URL               print what URL answers
//	toolbox sha256 FILE           print the SHA-256 of FILE
//	toolbox serve ADDRESS TEXT    answer every HTTP request with TEXT
package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		wait()
		return
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "toolbox:", err)
		os.Exit(1)
	}
}

func run(command string, args []string) error {
	wanted := map[string]int{"pause": 0, "write": 2, "lookup": 1, "get": 1, "sha256": 1, "serve": 2}
	if n, known := wanted[command]; !known || n != len(args) {
		return fmt.Errorf("cannot %s %q", command, args)
	}
	switch command {
	case "write":
		if err := os.WriteFile(args[0], []byte(args[1]), 0o644); err != nil {
			return err
		}
		wait()
	case "lookup":
		addresses, err := net.LookupHost(args[0])
		if err != nil {
			return err
		}
		for _, address := range addresses {
			fmt.Println(address)
		}
	case "get":
		return get(args[0])
	case "sha256":
		return digest(args[0])
	case "serve":
		return http.ListenAndServe(args[0], http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, args[1])
		}))
	default:
		wait()
	}
	return nil
}

func get(url string) error {
	client := http.Client{Timeout: 10 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	_, err = io.Copy(os.Stdout, response.Body)
	return err
}

func digest(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return err
	}
	fmt.Printf("%x\n", hash.Sum(nil))
	return nil
}

// wait blocks until the process is told to end, and reaps what it inherits: as a sandbox's first process it is init.
func wait() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for got := range signals {
		if got != syscall.SIGCHLD {
			return
		}
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if pid <= 0 || err != nil {
				break
			}
		}
	}
}
