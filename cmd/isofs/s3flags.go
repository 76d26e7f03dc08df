package main

import (
	"strconv"

	"github.com/spf13/pflag"

	"aesthetic.computer/isofs/origin"
	"aesthetic.computer/isofs/settings"
)

// s3Flags say how s3:// addresses are reached.
type s3Flags struct {
	endpoint  string
	region    string
	pathStyle string
	anonymous bool
}

const pathStyleAuto = "auto"

func (o *s3Flags) register(flags *pflag.FlagSet) {
	flags.StringVar(&o.endpoint, "s3-endpoint", "", "URL of the S3 server of s3:// addresses (default as the AWS SDK finds it: AWS_ENDPOINT_URL, ~/.aws, Amazon)")
	flags.StringVar(&o.region, "s3-region", "", "region of the bucket (default as the AWS SDK finds it, else us-east-1)")
	settings.ChoiceVar(flags, &o.pathStyle, "s3-path-style", pathStyleAuto, []string{"true", "false", pathStyleAuto}, "name the bucket in the path and not in the host's name: true, false, or auto, which is true with an endpoint that is not Amazon's")
	flags.Lookup("s3-path-style").NoOptDefVal = "true"
	flags.BoolVar(&o.anonymous, "s3-anonymous", false, "read a public bucket without credentials")
}

func (o *s3Flags) options() origin.S3 {
	s := origin.S3{Endpoint: o.endpoint, Region: o.region, Anonymous: o.anonymous}
	if style, err := strconv.ParseBool(o.pathStyle); err == nil {
		s.PathStyle = &style
	}
	return s
}
