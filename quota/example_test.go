package quota_test

import (
	"fmt"
	"time"

	"aesthetic.computer/isofs/quota"
)

// Two at once, then one every ten seconds; each client has its own bucket.
func ExampleBuckets_Take() {
	clock := time.Unix(0, 0)
	buckets := quota.New(quota.Quota{Burst: 2, Every: 10 * time.Second}, 1000, func() time.Time { return clock })
	for range 3 {
		fmt.Println(buckets.Take("192.0.2.1"))
	}
	fmt.Println("wait", buckets.Wait("192.0.2.1"), "while another client may:", buckets.Take("192.0.2.2"))
	clock = clock.Add(10 * time.Second)
	fmt.Println(buckets.Take("192.0.2.1"))
	// Output:
	// true
	// true
	// false
	// wait 10s while another client may: true
	// true
}
