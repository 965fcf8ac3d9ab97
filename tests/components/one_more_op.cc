// An op of somebody's own, as a library that TensorFlow loads: y = x + 1.

#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"

REGISTER_OP("OneMore").Input("x: float").Output("y: float").SetShapeFn(tensorflow::shape_inference::UnchangedShape);

class OneMore : public tensorflow::OpKernel {
 public:
  explicit OneMore(tensorflow::OpKernelConstruction* construction) : OpKernel(construction) {}

  void Compute(tensorflow::OpKernelContext* context) override {
    const tensorflow::Tensor& x = context->input(0);
    tensorflow::Tensor* y = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, x.shape(), &y));
    for (int64_t i = 0; i < x.NumElements(); ++i) y->flat<float>()(i) = x.flat<float>()(i) + 1;
  }
};

REGISTER_KERNEL_BUILDER(Name("OneMore").Device(tensorflow::DEVICE_CPU), OneMore);
